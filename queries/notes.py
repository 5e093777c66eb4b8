"""What has been noted about features."""

import polars as pl

from energylens.db.beside import lacking
from energylens.db.notes import NOTES, Note, write_note
from energylens.db.store import Reader, Store
from energylens.queries.catalog import call, write_catalog


def noted_features(store: Reader, run: str, in_sae: str | None = None) -> pl.DataFrame:
    """Features with a star or a note; in_sae None is every SAE."""
    return call(store, "noted_features", run=run, in_sae=in_sae)


def note_of(store: Reader, run: str, sae: str, feature: int) -> Note:
    """What is noted about a feature; an empty note where nothing is."""
    rows = noted_features(store, run, sae).filter(pl.col("feature_id") == feature)
    if rows.is_empty():
        return Note(run, sae, feature)
    row = rows.row(0, named=True)
    return Note(run, sae, feature, row["is_starred"], row["note"], row["changed"], row["author"])


def keep_note(store: Store, note: Note) -> None:
    """Write a note into the store and show it in the open catalogue.

    Raises:
        StoreBusyError: another process writes notes of this run just now.
        StoreError: the disk cannot be written.
    """
    run = store.layout.run(note.run_id)
    had_all = run.notes.exists() and not lacking(NOTES, run.notes)
    write_note(run, note)
    if not had_all:  # until now the view had no file to read, or one of an older version
        store.refresh()
        write_catalog(store.path)
