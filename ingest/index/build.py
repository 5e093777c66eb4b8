"""Build the whole index of a run, and say what it holds."""

from pathlib import Path

from energylens.db.index_files import has_columns, replace_index
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.leftovers import clean_store
from energylens.db.manifest import read_manifest
from energylens.db.provenance import RunInfo
from energylens.db.schema import TABLES
from energylens.db.store import open_store
from energylens.db.version import check_format
from energylens.ingest.index.coactivation import write_coactivation
from energylens.ingest.index.efas import N_FLIPS, write_efas
from energylens.ingest.index.from_weights import FromWeights
from energylens.ingest.index.matches import write_matches
from energylens.ingest.index.routes import read_routing
from energylens.ingest.index.routing import write_routing
from energylens.ingest.index.routing_features import write_routing_features
from energylens.ingest.index.statistics import Scratch
from energylens.ingest.progress import Progress
from energylens.queries.catalog import write_catalog


def build_indexes(
    store: Path, progress: Progress, run_id: str | None = None, n_flips: int = N_FLIPS
) -> list[str]:
    """Build the index of every run whose index is not fresh, or lacks what the weights that are
    here by now can give, or of one run; their ids.

    Raises:
        StoreError: there is no such store or run, or the disk cannot be written.
    """
    check_format(store)
    clean_store(store)
    built = []
    with open_store(store) as opened:
        states = opened.runs if run_id is None else [opened.run(run_id)]
    for state in states:
        weights = FromWeights(state.info, StoreLayout(store).run(state.info.run_id))
        is_due = run_id is not None or state.index != "fresh" or weights.can_add()
        if state.n_complete and is_due:
            build_index(store, state.info, progress, weights, n_flips)
            built.append(state.info.run_id)
        weights.tell(progress)
    write_catalog(store)
    return built


def build_index(
    store: Path, run: RunInfo, progress: Progress, weights: FromWeights, n_flips: int = N_FLIPS
) -> None:
    """Replace the index of one run; `n_flips` random sign flips confirm EFAS."""
    layout = StoreLayout(store).run(run.run_id)
    with replace_index(layout) as writer, Scratch(store, run.run_id) as scratch:
        routing = read_routing(scratch.con, run.run_id)
        if routing is not None:
            write_routing(writer, run, *routing)
        for number, sae in enumerate(run.saes):
            progress.step("index", number, len(run.saes), "SAEs")
            decoder = weights.write(writer, sae)
            scratch.write(writer, sae, None if decoder is None else decoder.norms)
            if run.efas and (decoder is not None or not weights.keep_efas(writer, sae)):
                directions = None if decoder is None else decoder.directions
                write_efas(scratch.con, writer, run, sae, directions, scratch.folder, n_flips)
            token_index, texts = scratch.tokens
            write_coactivation(scratch.con, writer, run, sae, token_index, texts)
            write_matches(scratch.con, writer, run, sae, token_index, weights.directions)
            if routing is not None:
                write_routing_features(scratch.con, writer, run, sae, *routing)
        _say_unread(layout, progress)
        if run.saes:
            progress.step("index", len(run.saes), len(run.saes), "SAEs")


def _say_unread(layout: RunLayout, progress: Progress) -> None:
    """Name what was measured on request by a version that had other columns: no table shows it."""
    if (layout.measured / "manifest.json").exists():
        for entry in read_manifest(layout.measured).files:
            if not has_columns(layout.measured / entry.path, TABLES[entry.table]):
                progress.say(
                    f"{entry.table} is not shown: an older version measured it, with other "
                    "columns; ask for it again"
                )
