"""SAEs of one hook beside each other on the same texts, whoever trained them."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from energylens.errors import UsageError
from energylens.ingest.index.build import build_indexes
from energylens.ingest.names import named_apart
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.lens.directions import mean_max_cosine
from energylens.lens.saes import Sae, load_saes
from energylens.queries.catalog import open_catalog
from energylens.queries.specialists import specialist_matrix


@dataclass(frozen=True)
class ComparedSae:
    """One SAE's row; what the gate measured, and what the index found."""

    sae_id: str
    source: str
    architecture: str
    d_sae: int
    l0: float | None
    fvu: float | None
    ce_recovered: float | None
    n_dead: int | None
    n_dense: int | None
    n_specialists: int
    """Features that stand for a category of the texts; 0 where texts have none."""
    n_categories: int
    """Categories that have such a feature."""
    cosines: tuple[float, ...]
    """To each SAE of the comparison, in its order: the largest cosine that a decoder direction of
    this one has there, on average."""


def compare_saes(
    model: str, texts: str, sources: tuple[str, ...], progress: Progress
) -> list[ComparedSae]:
    """Ingest texts with all SAEs into a store that is thrown away, and read what it says of them.

    Raises:
        UsageError: they are fewer than two, not of one hook or width, or one is given twice.
    """
    _check(load_saes(list(sources)))
    config = IngestConfig(model, texts, sources, energies="none", accept_gate=True)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "compared.lens"
        prepared = prepare(store, load(config))
        ingest(prepared, Part(), progress)
        build_indexes(store, progress)
        run = prepared.run
        with open_catalog(store) as opened:
            matrix = specialist_matrix(opened, run.run_id).to_dicts()
    saes = prepared.instruments.saes
    return [
        ComparedSae(
            sae_id=info.sae_id,
            source=info.source,
            architecture=info.architecture,
            d_sae=info.d_sae,
            l0=info.l0,
            fvu=info.fvu,
            ce_recovered=info.ce_loss_score,
            n_dead=info.n_dead,
            n_dense=info.n_dense,
            n_specialists=sum(r["n_found"] for r in matrix if r["sae_id"] == info.sae_id),
            n_categories=sum(r["is_found"] for r in matrix if r["sae_id"] == info.sae_id),
            cosines=tuple(mean_max_cosine(sae.W_dec, other.W_dec) for other in saes),
        )
        for info, sae in zip(run.saes, saes, strict=True)
    ]


def _check(saes: list[Sae]) -> None:
    if len(saes) < 2:
        raise UsageError(f"a comparison needs two SAEs or more; there are {len(saes)}")
    hooks = sorted({sae.target_hook for sae in saes} | {sae.hook_name for sae in saes})
    if len(hooks) > 1:
        raise UsageError(
            f"SAEs are compared at one hook, and these have {', '.join(hooks)}; give those of one"
        )
    other = next((sae for sae in saes if sae.d_in != saes[0].d_in), None)
    if other is not None:
        raise UsageError(
            f"SAEs of one hook read vectors of one width: '{saes[0].source}' reads "
            f"{saes[0].d_in:,} numbers, '{other.source}' {other.d_in:,}; leave one out"
        )
    named_apart(saes)
