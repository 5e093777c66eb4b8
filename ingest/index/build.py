"""Build the whole index of a run, and say what it holds."""

from pathlib import Path
from typing import TYPE_CHECKING

from energylens.db.index_files import IndexWriter, index_state, replace_index
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.leftovers import clean_store
from energylens.db.manifest import read_manifest
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.db.store import open_store
from energylens.db.version import check_format
from energylens.errors import MissingExtraError, UsageError
from energylens.ingest.index.coactivation import write_coactivation
from energylens.ingest.index.efas import N_FLIPS, write_efas
from energylens.ingest.index.matches import write_matches
from energylens.ingest.index.routes import read_routing
from energylens.ingest.index.routing import write_routing
from energylens.ingest.index.routing_features import write_routing_features
from energylens.ingest.index.statistics import Scratch
from energylens.ingest.progress import Progress
from energylens.queries.catalog import write_catalog

if TYPE_CHECKING:
    import numpy as np

    from energylens.ingest.index.weights import Decoder

WEIGHT_TABLES = ("feature_logits", "feature_neighbours")
"""Read off the SAE's weights, so that they outlive a rebuild on a machine without them."""

GRADIENT_TABLES = ("efas", "efas_categories")
"""Made from codes and weights: they outlive a rebuild only over the same shards."""


def build_indexes(
    store: Path, progress: Progress, run_id: str | None = None, n_flips: int = N_FLIPS
) -> list[str]:
    """Build the index of every run whose index is not fresh, or of one run; their ids.

    Raises:
        StoreError: there is no such store or run, or the disk cannot be written.
    """
    check_format(store)
    clean_store(store)
    built = []
    with open_store(store) as opened:
        states = opened.runs if run_id is None else [opened.run(run_id)]
    for state in states:
        if state.n_complete and (run_id is not None or state.index != "fresh"):
            build_index(store, state.info, progress, n_flips)
            built.append(state.info.run_id)
    write_catalog(store)
    return built


def build_index(store: Path, run: RunInfo, progress: Progress, n_flips: int = N_FLIPS) -> None:
    """Replace the index of one run; `n_flips` random sign flips confirm EFAS."""
    layout = StoreLayout(store).run(run.run_id)
    weights = _Weights(run, layout, progress)
    with replace_index(layout) as writer, Scratch(store, run.run_id) as scratch:
        routing = read_routing(scratch.con, run.run_id)
        if routing is not None:
            write_routing(writer, run, *routing)
        for number, sae in enumerate(run.saes):
            progress.step("index", number, len(run.saes), "SAEs")
            decoder = weights.write(writer, sae)
            scratch.write(writer, sae, None if decoder is None else decoder.norms)
            if decoder is not None and run.efas:
                write_efas(scratch.con, writer, run, sae, decoder.directions, n_flips)
            token_index, texts = scratch.tokens
            write_coactivation(scratch.con, writer, run, sae, token_index, texts)
            write_matches(scratch.con, writer, run, sae, token_index, weights.directions)
            if routing is not None:
                write_routing_features(scratch.con, writer, run, sae, *routing)
        if run.saes:
            progress.step("index", len(run.saes), len(run.saes), "SAEs")


class _Weights:
    """The tables read off weights: computed where the weights are, else kept from before."""

    def __init__(self, run: RunInfo, layout: RunLayout, progress: Progress) -> None:
        self._run, self._layout, self._progress = run, layout, progress
        self._missing: str | None = None
        self._reader = None
        if run.saes:
            try:
                from energylens.ingest.index.weights import WeightReader

                self._reader = WeightReader(run)
            except ImportError as error:
                self._missing = str(MissingExtraError("models", error.name or "torch"))
            except UsageError as error:
                self._missing = str(error)

    def write(self, writer: IndexWriter, sae: SaeInfo) -> "Decoder | None":
        """Write both tables of one SAE; its decoder, None where the weights are not here."""
        if self._reader is not None:
            try:
                return self._reader.write(writer, sae)
            except UsageError as error:
                self._missing = str(error)
        kept = self._keep(writer, sae)
        self._progress.say(
            f"logit weights, neighbours and EFAS of {sae.sae_id} "
            f"{'are kept as they were' if kept else 'are left out'}: {self._missing}"
        )
        return None

    def directions(self, sae: SaeInfo) -> "np.ndarray | None":
        """[d_sae, d_out]: what each feature writes; None where the weights are not here."""
        try:
            return None if self._reader is None else self._reader.directions(sae)
        except UsageError:
            return None

    def _keep(self, writer: IndexWriter, sae: SaeInfo) -> bool:
        import pyarrow.parquet as pq

        if not (self._layout.index / "manifest.json").exists():
            return False
        files = {entry.path for entry in read_manifest(self._layout.index).files}
        kept = False
        is_fresh = index_state(self._layout) == "fresh"
        for table in (*WEIGHT_TABLES, *(GRADIENT_TABLES if is_fresh else ())):
            relative = writer.path(table, sae.sae_id).relative_to(writer.directory)
            if relative.as_posix() in files:
                with writer.table(table, sae.sae_id) as out:
                    out.write(pq.read_table(self._layout.index / relative))
                kept = True
        return kept
