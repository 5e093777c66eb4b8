"""Notes and stars: the one table written by hand."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from energylens.db.claim import claim_run
from energylens.db.merge import merge_stores
from energylens.db.notes import Note, read_notes, write_note
from energylens.db.verify import verify_store
from energylens.errors import StoreBusyError, StoreDamagedError
from energylens.queries.catalog import open_catalog
from energylens.queries.notes import keep_note, note_of, noted_features
from energylens.queries.ranked import FeatureList, Sort


@pytest.fixture
def noted(store_path: Path, tmp_path: Path) -> Path:
    """A copy of the store that may be written to."""
    return Path(shutil.copytree(store_path, tmp_path / "noted.lens"))


def first_run(path: Path) -> str:
    return next((path / "runs").iterdir()).name


def test_a_note_is_seen_at_once_and_outlives_the_open_store(noted: Path) -> None:
    run = first_run(noted)
    with open_catalog(noted) as store:
        assert noted_features(store, run).is_empty()
        assert note_of(store, run, "mlp", 3) == Note(run, "mlp", 3)
        keep_note(store, Note(run, "mlp", 3, is_starred=True))
        keep_note(store, Note(run, "mlp", 7, note="[bold]brackets[/] 'quoted'; -- déjà"))
        keep_note(store, Note(run, "resid", 3, note="another SAE"))
        assert note_of(store, run, "mlp", 3).is_starred
        assert [n["feature_id"] for n in noted_features(store, run).to_dicts()] == [3, 7, 3]
        assert len(noted_features(store, run, "mlp")) == 2
        keep_note(store, replace(note_of(store, run, "mlp", 3), note="both"))
    with open_catalog(noted) as store:
        found = note_of(store, run, "mlp", 3)
        assert (found.is_starred, found.note) == (True, "both")
        assert note_of(store, run, "mlp", 7).note == "[bold]brackets[/] 'quoted'; -- déjà"
    assert not verify_store(noted)


def test_a_note_without_star_and_text_is_gone(noted: Path) -> None:
    run = first_run(noted)
    with open_catalog(noted) as store:
        keep_note(store, Note(run, "mlp", 3, is_starred=True))
        keep_note(store, Note(run, "mlp", 3))
        assert noted_features(store, run).is_empty()
        (kept,) = read_notes(store.layout.run(run).notes)
        assert (kept.is_starred, kept.note) == (False, None), "that it was taken away is known"
        listed = FeatureList(store, run, "mlp")
        assert listed.arrange("is_starred=yes", Sort())[0] == 0


def test_the_feature_list_filters_and_sorts_by_notes(noted: Path) -> None:
    run = first_run(noted)
    with open_catalog(noted) as store:
        keep_note(store, Note(run, "mlp", 5, is_starred=True, note="opening bracket"))
        keep_note(store, Note(run, "mlp", 9, note="closing bracket"))
        listed = FeatureList(store, run, "mlp")
        left, total = listed.arrange('note~"bracket$"', Sort("is_starred"))
        assert left == 2 < total
        assert [row[0] for row in listed.rows(0, 2)] == [5, 9]
        assert listed.arrange("is_starred=yes", Sort())[0] == 1
        assert listed.arrange("opening", Sort())[0] == 1, "a word is looked for in notes too"


def test_the_later_of_two_notes_is_merged(noted: Path, tmp_path: Path) -> None:
    run, other = first_run(noted), tmp_path / "other.lens"
    merge_stores(other, [noted])
    for path, text, own in ((noted, "old", 2), (other, "new", 3)):
        with open_catalog(path) as store:
            keep_note(store, Note(run, "mlp", 1, note=text))
            keep_note(store, Note(run, "mlp", own, note="only here"))
    for target, source in ((noted, other), (other, noted)):
        merge_stores(target, [source])
        with open_catalog(target) as store:
            notes = noted_features(store, run)["note"].to_list()
            assert notes == ["new", "only here", "only here"]


def test_two_writers_do_not_lose_notes(noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("energylens.db.claim.PATIENCE", 0.05)
    run = first_run(noted)
    with open_catalog(noted) as store:
        layout = store.layout.run(run)
        with claim_run(layout), pytest.raises(StoreBusyError, match="try again"):
            write_note(layout, Note(run, "mlp", 1, is_starred=True))
        write_note(layout, Note(run, "mlp", 1, is_starred=True))


def test_a_damaged_file_of_notes_is_named(noted: Path) -> None:
    run = first_run(noted)
    path = noted / "runs" / run / "notes.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(StoreDamagedError, match="restore it from a copy"):
        read_notes(path)
    assert "restore it from a copy" in verify_store(noted)[0].what
