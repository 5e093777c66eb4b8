"""Lists of stars, notes, explanations and ratings: they merge alike from either side, and what is
no list changes nothing."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from energylens.cli import app
from energylens.db.explanations import Explanation, read_explanations
from energylens.db.layout import StoreLayout
from energylens.db.lists import Known, merged, read_known
from energylens.db.notes import Note, read_notes, write_note
from energylens.db.ratings import Rating, write_rating
from energylens.db.scores import ExplanationScore
from energylens.db.verify import verify_store
from energylens.errors import UsageError
from energylens.queries.catalog import open_catalog
from energylens.queries.lists import Imported, export_list, import_list
from energylens.queries.notes import noted_features
from tests.hostile.mutate import mutated

RUN = "r"
FEATURES = st.integers(0, 2)
TIMES = st.sampled_from(
    ["", "2026-01-01T00:00:00.000000+00:00", "2026-01-02T00:00:00.000000+00:00"]
)
WORDS = st.sampled_from(["", "a", "[b]", "\x1b[2J"])
SCORES = st.one_of(st.none(), st.floats(-1, 1))
KNOWN = st.builds(
    Known,
    st.lists(
        st.builds(Note, st.just(RUN), st.just("s"), FEATURES, st.booleans(), st.none() | WORDS,
                  TIMES, st.none() | WORDS)
    ),
    st.lists(
        st.builds(Explanation, st.just(RUN), st.just("s"), FEATURES, WORDS, WORDS, WORDS, SCORES)
    ),
    st.lists(
        st.builds(ExplanationScore, st.just(RUN), st.just("s"), FEATURES, WORDS, WORDS, WORDS,
                  WORDS, score=SCORES, scored=TIMES)
    ),
    st.lists(
        st.builds(Rating, st.just(RUN), st.just("s"), FEATURES, WORDS, FEATURES, FEATURES,
                  FEATURES, FEATURES, TIMES)
    ),
)  # fmt: skip


@given(KNOWN, KNOWN, KNOWN)
@settings(max_examples=80)
def test_merging_is_the_same_in_any_order_and_twice(a: Known, b: Known, c: Known) -> None:
    both = merged(a, b)
    assert both == merged(b, a) == merged(both, b) == merged(a, both)
    assert merged(both, c) == merged(a, merged(b, c))
    for name, rows in vars(both).items():
        assert {*rows} <= {*getattr(a, name), *getattr(b, name)}, "nothing is made up"
    for note in both.notes:
        others = [n for n in (*a.notes, *b.notes) if n.feature_id == note.feature_id]
        assert note.changed == max(n.changed for n in others), "the later one, with its author"
    for one in both.explanations:
        same = [e.score for e in (*a.explanations, *b.explanations)
                if replace(e, score=None) == replace(one, score=None)]  # fmt: skip
        assert one.score == max((s for s in same if s is not None), default=None)


@pytest.fixture
def two(rich_path: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of a store, in which two people have been at work."""
    stores = tmp_path / "a.lens", tmp_path / "b.lens"
    for path, author in zip(stores, ("ada", "bob"), strict=True):
        shutil.copytree(rich_path, path)
        run = run_of(path)
        for feature in (1, 2) if author == "ada" else (2, 3):
            noted = f"by {author}, [bold]é\x1b"
            write_note(run, Note(run.root.name, "one", feature, True, noted, author=author))
        write_rating(run, Rating(run.root.name, "one", 3, "ada", 1, 1, 1, len(author)))
    write_note(run_of(stores[1]), Note(run_of(stores[1]).root.name, "one", 7, author="bob"))
    return stores


def run_of(path: Path) -> Any:
    return StoreLayout(path).runs()[0]


def exported(path: Path, to: Path) -> dict:
    with open_catalog(path) as store:
        export_list(store, run_of(path).root.name, to)
    return json.loads(to.read_text("utf-8"))


def taken(path: Path, file: Path) -> Imported:
    with open_catalog(path) as store:
        return import_list(store, file)


def files(path: Path) -> dict[str, bytes]:
    """All but the catalogue, which is made anew from them, and its checksum."""
    found = (f for f in path.rglob("*") if f.is_file() and f.parent != path)
    return {str(f.relative_to(path)): f.read_bytes() for f in found}


def test_two_people_end_with_one_list(two: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = two
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    exported(a, one)
    exported(b, other)
    assert taken(a, other).taken.notes == 3, "two of bob's, and a star that he took away"
    taken(b, one)
    assert exported(a, one) == exported(b, other)
    with open_catalog(a) as store:
        rows = noted_features(store, run_of(a).root.name).rows(named=True)
    assert [(r["feature_id"], r["author"]) for r in rows] == [(1, "ada"), (2, "bob"), (3, "bob")]
    before = files(a)
    assert "nothing new" in taken(a, other).said
    assert files(a) == before
    assert verify_store(a) == verify_store(b) == []
    labels = [e.feature_id for e in read_explanations(run_of(a).explanations) if e.is_label]
    assert labels == [3]


Break = Callable[[dict], Any]
BROKEN: dict[str, tuple[Break, str]] = {
    "another run": (lambda d: d["run"].update(run_id="x"), "of the run 'x', which is not in"),
    "another identity": (lambda d: d["run"].update(identity="x"), "another run that is called"),
    "other weights": (
        lambda d: d["run"]["saes"][0].update(weights_sha256="0"), "its weights differ"
    ),
    "no such feature": (
        lambda d: d["known"]["notes"][0].update(feature_id=48), "the features 0 to 47, no 48"
    ),
    "a giant feature": (lambda d: d["known"]["notes"][0].update(feature_id=10**40), "no 1000"),
    "a wrong type": (lambda d: d["known"]["notes"][0].update(note=7), "notes[0].note"),
    "an unknown field": (lambda d: d["known"]["notes"][0].update(more=7), "a field 'more'"),
    "a row of another run": (lambda d: d["known"]["notes"][0].update(run_id="x"), "the run 'x'"),
    "no zone": (lambda d: d["known"]["notes"][0].update(changed="2026-01-01"), "names no zone"),
    "no time": (lambda d: d["known"]["notes"][0].update(changed="soon"), "is no time"),
    "a time to come": (
        lambda d: d["known"]["notes"][0].update(changed="9999-01-01T00:00Z"), "yet to come"
    ),
    "half a character": (lambda d: d["known"]["notes"][0].update(note="\ud800"), "surrogates"),
    "off the scale": (lambda d: d["known"]["ratings"][0].update(confidence=9), "from 0 to 3"),
    "nobody": (lambda d: d["known"]["ratings"][0].update(rater=" "), "name of who rates"),
    "not a number": (
        lambda d: d["known"]["explanations"][0].update(score=float("nan")), "is no number"
    ),
    "a giant count": (
        lambda d: d["known"]["explanation_scores"][0].update(n_active=10**12), "cannot be 1000"
    ),
    "a later version": (lambda d: d.update(version=2), "is no list that"),
    "another kind": (lambda d: d.update(what="x"), "is no list that"),
}  # fmt: skip


def test_what_is_no_list_is_told_and_nothing_is_taken(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = two
    good = exported(b, tmp_path / "good.json")
    before = files(a)
    for name, (change, said) in BROKEN.items():
        raw = json.loads(json.dumps(good))
        change(raw)
        path = tmp_path / "bad.json"
        path.write_text(json.dumps(raw), encoding="utf-8")
        with pytest.raises(UsageError) as told:
            taken(a, path)
        assert said in str(told.value) and str(path) in str(told.value), (name, str(told.value))
        assert files(a) == before, name
    whole = (tmp_path / "good.json").read_bytes()
    for cut in (0, 1, len(whole) // 2, len(whole) - 3):
        (tmp_path / "bad.json").write_bytes(whole[:cut])
        with pytest.raises(UsageError, match="is no list that"):
            taken(a, tmp_path / "bad.json")
    for path in (tmp_path, tmp_path / "nowhere.json"):
        with pytest.raises(UsageError, match="is no list that"):
            taken(a, path)
    assert files(a) == before


def test_changed_bytes_are_refused_or_taken_whole(two: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = two
    exported(b, tmp_path / "good.json")
    seeds, by = ((tmp_path / "good.json").read_bytes(),), random.Random(4)
    path, n_refused = tmp_path / "bad.json", 0
    with open_catalog(a) as store:
        for _ in range(300):
            path.write_bytes(mutated(seeds, by))
            before = read_known(run_of(a))
            try:
                import_list(store, path)
            except UsageError as error:
                n_refused += 1
                assert read_known(run_of(a)) == before and str(path) in str(error)
    assert n_refused > 100 and verify_store(a) == []


def test_rows_about_an_sae_that_is_not_here_are_told_of(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = two
    raw = exported(b, tmp_path / "list.json")
    raw["known"]["notes"] += [{**raw["known"]["notes"][0], "sae_id": "later"}]
    (tmp_path / "list.json").write_text(json.dumps(raw), encoding="utf-8")
    done = taken(a, tmp_path / "list.json")
    assert done.left_out == {"later": 1} and done.taken.notes == 3
    assert "1 row about 'later' left out" in done.said
    assert "later" not in {note.sae_id for note in read_notes(run_of(a).notes)}


def test_by_command(two: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = two
    out = tmp_path / "list.json"
    for words in (["export", "list", a, "-o", out], ["import", "list", b, out, "--json"]):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["taken"]["notes"] == 1, "bob's of feature 2 is later"
    assert asdict(read_known(run_of(a)))["notes"][0]["author"] == "ada"
