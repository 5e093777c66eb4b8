"""Pickers that letters make shorter, and `:`, which finds anything."""

import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.widgets import Input, OptionList

from energylens.db.explanations import Explanation, write_explanations
from energylens.db.layout import StoreLayout
from energylens.db.store import Store
from energylens.queries.catalog import named_queries, open_catalog, write_catalog
from energylens.queries.display import number
from energylens.queries.explanations import search_features
from energylens.tui.finding import quoted
from energylens.tui.fuzzy import Entry, places_of, ranked
from energylens.tui.modals.describe import described
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.features import FeaturesScreen
from energylens.tui.screens.sql import SqlScreen
from energylens.tui.screens.text import TextScreen
from energylens.tui.widgets.sql_editor import SqlEditor
from tests.tui.conftest import Driver, Open

SIZES = pytest.mark.parametrize("size", ["60x15", "80x24", "160x45"])


@given(st.text(max_size=30), st.text(max_size=6))
def test_letters_stand_where_they_are_said_to_stand(text: str, letters: str) -> None:
    wanted = letters.lower()
    score, places = places_of(text, wanted)
    rest = iter(text.lower())
    in_order = all(letter in rest for letter in wanted if not letter.isspace())
    if len(text.lower()) == len(text) and wanted.strip():
        assert (score > 0) == in_order
    assert list(places) == sorted(set(places))
    if len(text.lower()) == len(text) and places:
        seen = [text.lower()[place] for place in places]
        kept = [letter for letter in wanted if not letter.isspace()]
        assert [letter for letter in seen if not letter.isspace()] == kept


def test_what_fits_better_comes_first() -> None:
    titles = ["matched_features", "a feat", "feature", "f-e-a-t", "nothing", "xfeatx"]
    entries = [Entry(title, title) for title in titles] + [Entry("z", "z", about="Feat of arms")]
    found = [one.entry.title for one in ranked(entries, "FEAT")]
    assert found[0] == "feature", "at the beginning"
    assert set(found[1:3]) == {"matched_features", "a feat"}, "where a word begins"
    assert found[3:] == ["xfeatx", "z", "f-e-a-t"]
    assert [one.entry.title for one in ranked(entries, " ")] == [*titles, "z"]


def test_a_long_line_of_the_same_letter_takes_no_time() -> None:
    assert places_of("a" * 100_000, "a" * 50 + "b")[0] == 0


@pytest.mark.parametrize(
    ("words", "filter_text"),
    [("import", "import"), ("new york", '"new york"'), ("a:b", '"a:b"'), ('say "x"', '"say x"')],
)
def test_words_become_a_filter_that_means_them(words: str, filter_text: str) -> None:
    assert quoted(words) == filter_text


def counted(driver: Driver) -> str:
    return next(line for line in driver.lines if " of " in line and "esc leaves" in line)


@SIZES
async def test_queries_are_found_by_letters_and_counted(drive: Open, size: str) -> None:
    n_all = len(named_queries())
    async with drive(size) as d:
        await d.press("8", "f2")
        assert f"{n_all} of {n_all}" in counted(d)
        lines = [line for line in d.lines if "activation_samples" in line]
        assert len(lines) >= 1, "a line each"
        await d.type("specialist")
        by_hand = [
            q.name for q in named_queries().values() if "specialist" in f"{q.name} {q.doc}".lower()
        ]
        n = int(counted(d).split(" of ")[0].split()[-1])
        assert len(by_hand) <= n < n_all
        await d.press(*["backspace"] * len("specialist"))
        await d.type("padding_effect")
        assert f"1 of {n_all}" in counted(d) and "padding_effect" in d.text
        await d.press("enter")
        editor = d.app.screen.query_one("#editor", SqlEditor)
        assert "FROM padding_effect(\n    run := '" in editor.text and editor.selected_text == ""
        await d.press("f2")
        await d.type("concept_fea")
        await d.press("enter")
        assert editor.selected_text == "?", "the first argument that has to be given"
        await d.type("'cat'")
        assert "    pattern := 'cat',\n" in editor.text
        await d.press("escape", "f5")
        assert "rows" in d.lines[-2] or "rows" in d.lines[-3]


@SIZES
async def test_an_sae_is_chosen_by_letters(drive: Open, rich_path: Path, size: str) -> None:
    async with drive(size, rich_path) as d:
        await d.press("2", "c")
        await d.type("two")
        assert " 1 of 3" in counted(d)
        await d.press("enter")
        assert d.app.workspace.selection is not None
        assert d.app.workspace.selection.sae.sae_id == "two"
        await d.press("c")
        await d.type("zzz")
        assert " 0 of 3" in counted(d)
        await d.press("enter", "down", "up", "pagedown", "escape")
        assert isinstance(d.app.screen, FeaturesScreen)


@SIZES
async def test_a_concept_is_found_from_a_fresh_start(
    drive: Open, rich: Store, rich_path: Path, rich_run: str, size: str
) -> None:
    """`:import` and enter are eight keys."""
    keys = ("colon", *"cat", "enter")
    assert len(keys) - len("cat") + len("import") <= 10
    async with drive(size, rich_path) as d:
        sae = d.app.workspace.choices[0].sae.sae_id
        n = len(search_features(rich, rich_run, "cat", sae, 1000, 0.1))
        await d.press(*keys[:-1])
        first = next(line for line in d.lines if "concept" in line)
        assert f"cat  {n} features of {sae}" in first
        await d.press(keys[-1])
        assert isinstance(d.app.screen, FeaturesScreen)
        assert f"{n} of 40 · cat" in d.text


async def test_typing_ahead_of_the_answer_finds_the_same(
    drive: Open, rich: Store, rich_path: Path, rich_run: str
) -> None:
    async with drive("small", rich_path) as d:
        sae = d.app.workspace.choices[0].sae.sae_id
        n = len(search_features(rich, rich_run, "cat", sae, 1000, 0.1))
        await d.press_ahead("colon", *"cat", "enter")
        assert isinstance(d.app.screen, FeaturesScreen) and f"{n} of 40 · cat" in d.text


@pytest.mark.parametrize(
    ("letters", "kind", "screen"),
    [
        ("even numbers", "feature", FeatureScreen),
        ("cat", "text", TextScreen),
        ("cat", "token", FeaturesScreen),
        ("padding_effect", "query", SqlScreen),
        ("two", "SAE", None),
        ("texts", "run", None),
        ("efas", "view", None),
    ],
)
async def test_each_kind_is_told_and_opened(
    drive: Open, rich_path: Path, letters: str, kind: str, screen: type | None
) -> None:
    async with drive("large", rich_path) as d:
        await d.press("colon")
        await d.type(letters)
        found = [one.entry for one in d.app.screen._found]  # type: ignore[attr-defined]
        place = next(n for n, entry in enumerate(found) if entry.kind == kind)
        options = d.app.screen.query_one(OptionList)
        await d.press(*["down"] * place)
        assert options.highlighted == place
        await d.press("enter")
        if screen is not None:
            assert isinstance(d.app.screen, screen), kind
        if kind == "SAE":
            assert d.app.workspace.selection is not None
            assert d.app.workspace.selection.sae.sae_id == "two"


async def test_a_letter_that_follows_cancels_the_search(
    drive: Open, rich_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search of `c` never ends by itself; `ca` is shown all the same."""
    waits: list[bool] = []

    def endless(reader, *args, **named):  # type: ignore[no-untyped-def]
        words = args[1]
        if words == "c":
            waits.append(True)
            reader.cursor().execute("SELECT count(*) FROM range(10_000_000_000_000)")
        return search_features(reader, *args, **named)

    monkeypatch.setattr("energylens.tui.finding.search_features", endless)
    async with drive("small", rich_path) as d:
        await d.press("colon")
        d._send("c")
        for _ in range(200):
            if waits:
                break
            await d.pilot.pause(0.02)
        assert waits and d.app.screen.query_one(Input).value == "c", "typing was not held up"
        await d.press("a", "t")
        assert "features of" in d.text and "concept" in d.text
        assert d.app.screen.query_one(Input).value == "cat"


async def test_the_palette_finds_by_words_too(drive: Open, rich_path: Path) -> None:
    async with drive("large", rich_path) as d:
        await d.press("ctrl+p")
        await d.type("even numbers")
        await d.until("feature: 3")
        await d.press("escape", "escape")


async def test_what_people_say_is_no_markup_in_the_palette(
    drive: Open, rich_path: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(rich_path, tmp_path / "said.lens"))
    said = ["a [/x] b", "[@click=app.quit]press[/]", "x\\[y"]
    with open_catalog(path) as opened:
        run = opened.infos[0].run_id
    rows = [Explanation(run, "mlp", n, f"zebra {text}") for n, text in enumerate(said)]
    write_explanations(StoreLayout(path).run(run), "mlp", rows)
    write_catalog(path)
    async with drive("large", path) as d:
        await d.press("ctrl+p")
        await d.type("zebra")
        for text in said:
            await d.until(f"zebra {text}")
        await d.press("escape", "escape")


async def test_a_palette_closed_while_it_searches_is_no_error(drive: Open, rich_path: Path) -> None:
    async with drive("large", rich_path) as d:
        for letters in ("e", "f", "at", "the", "mlp"):
            await d.press_ahead("ctrl+p", *letters, "escape", "escape")
        assert d.app.is_running


@SIZES
async def test_help_is_found_by_letters_and_counted(drive: Open, size: str) -> None:
    async with drive(size) as d:
        await d.press("2", "question_mark")
        (line,) = [line for line in d.lines if " keys · / finds one" in line]
        n_all = int(line.split(" of ")[1].split()[0])
        await d.press("slash")
        await d.type("star")
        (line,) = [line for line in d.lines if " keys · / finds one" in line]
        found, of = (int(part.split()[0 if n else -1]) for n, part in enumerate(line.split(" of ")))
        assert 0 < found < of == n_all and "Star it" in d.text
        await d.press("escape")
        assert f"{n_all} of {n_all} keys" in d.text
        await d.press("escape")
        assert isinstance(d.app.screen, FeaturesScreen)


@SIZES
async def test_a_column_is_described_in_one_key(
    drive: Open, rich: Store, rich_path: Path, size: str
) -> None:
    values = (
        rich.cursor()
        .execute(
            "SELECT count(density), quantile_cont(density, 0.5), max(density), "
            "count(DISTINCT density) FROM features WHERE sae_id = 'one'"
        )
        .fetchall()[0]
    )
    async with drive(size, rich_path) as d:
        choices = d.app.workspace.choices
        d.app.workspace.select(next(c for c in choices if c.sae.sae_id == "one"))
        await d.press("2")
        await d.on_column("list", "density")
        await d.press("I")
        said = dict(re.findall(r"│ +(values|NULL|distinct|50%|most)  (\S+)", d.text))
        assert (said["values"], said["NULL"]) == (str(values[0]), "0")
        assert said["distinct"] == str(values[3])
        if size != "60x15":
            assert (said["50%"], said["most"]) == (number(values[1]), number(values[2]))
        await d.press("I")
        assert isinstance(d.app.screen, FeaturesScreen)


def test_columns_of_any_kind_are_described() -> None:
    assert dict(described(pl.Series(["a", None, "a"]))) == {
        "values": "2",
        "NULL": "1",
        "distinct": "1",
    }
    odd = pl.Series([1.0, float("nan"), float("inf"), None, 3.0])
    told = dict(described(odd))
    assert (told["values"], told["NULL"], told["not finite"]) == ("4", "1", "2")
    assert (told["least"], told["50%"], told["most"], told["mean"]) == (
        number(1.0),
        number(2.0),
        number(3.0),
        number(2.0),
    )
    assert dict(described(pl.Series([None, None], dtype=pl.Float64)))["values"] == "0"
    lists = pl.Series([[1], [2, 3]])
    assert dict(described(lists))["values"] == "2"
