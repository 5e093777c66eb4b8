"""The SQL view: completion, history, saved statements, and from a row to its feature."""

from pathlib import Path

import duckdb
import pytest

from energylens.errors import StoreError, UsageError
from energylens.queries.completion import Vocabulary, added, vocabulary
from energylens.tui.screens import sql
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.sql import SqlScreen
from energylens.tui.screens.text import TextScreen
from energylens.tui.statements import MOST, history, history_path, remember, save, saved
from energylens.tui.widgets.sql_editor import SqlEditor
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.tui.conftest import Open

NAMES = Vocabulary(
    {"features": ("run_id", "feature_id", "density"), "texts": ("text_id", "category")}
)


@pytest.mark.parametrize(
    ("before", "candidates"),
    [
        ("FROM fea", ["features", "feature_id"]),
        ("SELECT DENS", ["density"]),
        ("FROM features AS f WHERE f.d", ["density"]),
        ("FROM texts t WHERE t.", ["text_id", "category"]),
        ("FROM texts WHERE texts.c", ["category"]),
        ("SELECT nothing.", []),
        ("SELECT ", []),
        ("FROM settling_s", ["settling_summary("]),
    ],
)
def test_words_are_completed_from_the_catalogue(before: str, candidates: list[str]) -> None:
    found = NAMES.complete(before)
    own = [n for n in found if n in ("features", "feature_id") or "feature" not in n]
    assert own == candidates


def test_the_catalogue_is_the_stores(store) -> None:
    found = vocabulary(store)
    assert found.columns["texts"][:2] == ("run_id", "text_id")
    assert {"codes", "features", "notes", "routing"} <= set(found.columns)


@pytest.mark.parametrize(
    ("before", "candidates", "expected"),
    [
        ("FROM fe", ["features", "feature_codes"], (2, "feature")),
        ("FROM FE", ["features"], (2, "features")),
        ("x", [], (0, "")),
    ],
)
def test_what_is_added_is_what_all_candidates_share(
    before: str, candidates: list[str], expected: tuple[int, str]
) -> None:
    assert added(before, candidates) == expected


async def test_tab_completes_and_the_status_line_tells_what_is_left(drive: Open) -> None:
    async with drive("large") as d:
        await d.press("8")
        editor = d.app.screen.query_one(SqlEditor)
        editor.text = ""
        await d.type("from textb")
        editor.text = ""
        await d.type("FROM tex")
        assert "tab · texts" in d.text
        await d.press("tab")
        assert editor.text == "FROM text", "texts, text_id and more agree so far"
        await d.type("s x WHERE x.cat")
        await d.press("tab", "f5")
        assert editor.text == "FROM texts x WHERE x.category"
        editor.text = "FROM texts LIMIT 2"
        await d.press("f5")
        assert "2 rows" in d.text


async def test_history_is_walked_and_kept_and_statements_are_saved(drive: Open) -> None:
    async with drive() as d:
        await d.press("8")
        editor = d.app.screen.query_one(SqlEditor)
        for statement in ("SELECT 1 AS one", "SELECT 2 AS two"):
            editor.text = statement
            await d.press("f5")
        editor.text = "draft"
        await d.press("ctrl+up", "ctrl+up")
        assert editor.text == "SELECT 1 AS one"
        await d.press("ctrl+down", "ctrl+down")
        assert editor.text == "draft"
        editor.text = "FROM saes"
        await d.press("f4")
        await d.type("all saes")
        await d.press("enter")
        await d.until("saved as")
    async with drive() as d:
        await d.press("8", "f3")
        assert "all saes: FROM saes" in d.text and "SELECT 2 AS two" in d.text
        await d.press("enter", "f5")
        assert "2 rows" in d.text


@pytest.mark.parametrize(
    ("statement", "screen"),
    [
        ("SELECT feature_id, sae_id, run_id FROM features WHERE sae_id = 'resid'", FeatureScreen),
        ("SELECT text_id FROM texts", TextScreen),
    ],
)
async def test_a_row_opens_its_feature_or_its_text(drive: Open, statement: str, screen) -> None:
    async with drive() as d:
        await d.press("8")
        d.app.screen.query_one(SqlEditor).text = statement
        await d.press("f5", "f6", "enter")
        assert isinstance(d.app.screen, screen)
        await d.press("escape")
        assert isinstance(d.app.screen, SqlScreen)
        assert d.app.screen.query_one("#rows", VirtualTable).n_rows


def test_the_history_outlives_damage_and_stays_small() -> None:
    for number in range(MOST + 5):
        remember(f"SELECT {number}")
    remember(f"SELECT {MOST}")
    assert history()[:2] == [f"SELECT {MOST}", f"SELECT {MOST + 4}"]
    assert len(history()) == MOST
    with history_path().open("a") as file:
        file.write('"cut o')
    assert history()[0] == f"SELECT {MOST}"


def test_a_saved_statement_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save("mine", "FROM texts")
    assert path.read_text() == "FROM texts\n" and saved() == {"mine": "FROM texts\n"}
    with pytest.raises(UsageError, match="is no name"):
        save("../evil", "FROM texts")

    def half(self: Path, *_: object, **__: object) -> None:
        self.write_bytes(b"FR")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(StoreError, match="No space left"):
        save("mine", "FROM tokens")
    assert saved() == {"mine": "FROM texts\n"} and len(list(path.parent.iterdir())) == 1


class Panic(BaseException):
    """What Polars raises where Rust panics is no Exception either."""


@pytest.mark.parametrize(
    "error", [Panic("it panicked"), MemoryError(), ValueError(), duckdb.Error("no"), KeyError("x")]
)
async def test_the_console_goes_on_when_its_thread_raises(
    drive: Open, store_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def raising(*_: object) -> None:
        raise error

    monkeypatch.setattr(sql, "ask", raising)
    async with drive("small", store_path) as d:
        await d.press("8", "f5")
        await d.until("the statement did not run")
        monkeypatch.undo()
        await d.press("f5")
        await d.until(" rows")
