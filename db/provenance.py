"""What made a run: the records behind `run.json` and the tables `runs` and `saes`.

What each field means stands once, beside the column of its name in `energylens.db.schema`.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import duckdb
import msgspec

from energylens.db.records import RecordError, read_record, refuse_link, sealed
from energylens.db.schema import RUNS, SAES
from energylens.db.sums import begin_sums
from energylens.db.whole import write_whole
from energylens.errors import StoreDamagedError

Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""What a column of 64 bits holds."""
Size = Annotated[int, msgspec.Meta(ge=1, le=(1 << 31) - 1)]
"""What is divided by, and counted up to."""
Layer = Annotated[int, msgspec.Meta(ge=-1, le=(1 << 31) - 1)]
"""-1 is in no block, or before the first."""
RunKind = Literal["corpus", "prompt", "intervention", "imported"]


@dataclass(frozen=True)
class SaeInfo:
    """One SAE of a run: a row of `saes`. The gate's figures are None until it has run."""

    sae_id: str
    source: str
    release: str | None
    hook_name: str
    layer: Layer
    stream: str
    architecture: str
    d_in: Size
    d_sae: Size
    weights_sha256: str
    normalize_activations: str
    centring: bool
    folded: bool
    neuronpedia_id: str | None
    declared_l0: float | None
    l0: float | None = None
    fvu: float | None = None
    explained_variance: float | None = None
    ce_loss_score: float | None = None
    n_dead: Count | None = None
    n_dense: Count | None = None
    gate_tokens: Count | None = None
    hook_head_index: Count | None = None
    gate: str = "not run"

    @property
    def lens_layer(self) -> int:
        """The layer whose energies are read where the SAE reads; -1 is the embedding."""
        return self.layer - 1 if self.hook_name.endswith("resid_pre") else self.layer


@dataclass(frozen=True)
class RunInfo:
    """One run: a row of `runs`, with its SAEs."""

    run_id: str
    kind: RunKind
    created: str
    model: str
    model_class: str
    model_revision: str | None
    model_sha256: str
    tokenizer_sha256: str
    texts: str
    texts_sha256: str
    n_texts: Count
    n_contexts: Count
    n_tokens: Count
    n_ctx: Size
    prepend_bos: bool
    n_layers: Count
    d_model: Size
    d_vocab: Size
    dtype: str
    loader: str
    texts_revision: str | None = None
    quantisation: str | None = None
    hooks: list[str] = field(default_factory=list)
    hook_median_norms: list[float] = field(default_factory=list)
    lens_layers: list[Layer] = field(default_factory=list)
    efas: list[str] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    n_shards: Count = 0
    versions: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    additions: list[str] = field(default_factory=list)
    base_run: str | None = None
    settings: str | None = None
    saes: list[SaeInfo] = field(default_factory=list)

    def layer_before_drop(self, sae: SaeInfo) -> int | None:
        """The layer with stored energies at the place an SAE reads, or next before it, from which
        it is told what later blocks are worth; None where only the last is stored, or none."""
        before = (layer for layer in self.lens_layers if layer <= sae.lens_layer)
        stored = max(before, default=None)
        return None if stored == self.n_layers - 1 else stored


def write_run(path: Path, run: RunInfo) -> None:
    """Write `run.json` whole or not at all; `energylens.db.change` is the way to call it."""
    begin_sums(path.parent)
    write_whole(path, sealed(run))


def read_run(path: Path) -> RunInfo:
    """The record of `run.json`.

    Raises:
        StoreDamagedError: the file is not what `write_run` writes.
    """
    try:
        for place in (path.parents[1], path.parent):
            refuse_link(place)
        run = read_record(path, RunInfo)
        if run.run_id != path.parent.name:
            raise RecordError(f"it names the run {run.run_id!r}, not that of its directory")
        return run
    except RecordError as error:
        raise StoreDamagedError(
            f"'{path}' does not describe a run ({error}); ingest the run again into a new store, "
            "or restore the file from a copy"
        ) from error


def fill_tables(con: duckdb.DuckDBPyConnection, runs: list[RunInfo], schema: str) -> None:
    """Fill the small tables `runs` and `saes` of a catalogue from the runs' records."""
    run_rows = [{**asdict(run), "versions": json.dumps(run.versions)} for run in runs]
    sae_rows = [{"run_id": run.run_id, **asdict(sae)} for run in runs for sae in run.saes]
    con.begin()
    try:
        for table, rows in ((RUNS, run_rows), (SAES, sae_rows)):
            # values are bound one by one: to take an Arrow table DuckDB would load pandas
            name = f"{schema}.{table.name}"
            con.execute(f"DELETE FROM {name}")  # noqa: S608
            names = [column.name for column in table.columns]
            places = ", ".join("?" * len(names))
            insert = f"INSERT INTO {name} ({', '.join(names)}) VALUES ({places})"  # noqa: S608
            if rows:
                con.executemany(insert, [[row.get(name) for name in names] for row in rows])
        con.commit()
    except BaseException:
        con.rollback()
        raise
