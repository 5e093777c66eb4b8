"""The SQL view: completion, history, saved statements, and from a row to its feature."""

from pathlib import Path

import duckdb
import polars as pl
import pytest
from textual.widgets.text_area import Selection

from energylens.errors import StoreError, UsageError
from energylens.tui.screens import sql
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.sql import SqlScreen
from energylens.tui.screens.text import TextScreen
from energylens.tui.sql_tabs import SqlTab, SqlTabs, keep_tabs, read_tabs, tabs_path
from energylens.tui.statements import MOST, history, history_path, remember, save, saved
from energylens.tui.widgets.catalogue import Catalogue
from energylens.tui.widgets.chart import histogram, is_number, kinds_of
from energylens.tui.widgets.sql_editor import SqlEditor
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.tui.conftest import Open


async def test_what_the_cursor_is_in_is_run_or_what_is_selected(drive: Open) -> None:
    async with drive("large") as d:
        await d.press("8")
        editor = d.app.screen.query_one(SqlEditor)
        editor.write("SELECT 41 AS one;\nSELECT 42 AS two;\nSELECT nope FROM runs")
        editor.move_cursor((1, 3))
        await d.press("f5")
        assert "42" in d.text and "two" in d.text and "41" not in d.lines[-4]
        editor.move_cursor((0, 17))
        await d.press("f5")
        table = d.app.screen.query_one("#rows", VirtualTable)
        assert [column.name for column in table.columns] == ["one"]
        editor.selection = Selection((1, 0), (1, 9))
        await d.press("f5")
        assert [column.name for column in table.columns] == ["42"]
        editor.move_cursor((2, 0))
        await d.press("f5")
        assert "line 3, column 8:" in d.text and "nope" in d.text, d.text
        assert editor.cursor_location == (2, 7)
        editor.write("  ")
        await d.press("f5")
        assert "there is no statement" in d.text


async def test_a_long_line_is_wrapped_and_f8_formats(drive: Open) -> None:
    async with drive("small") as d:
        await d.press("8")
        editor = d.app.screen.query_one(SqlEditor)
        editor.write("SELECT " + ", ".join(f"{n} AS Column_{n}" for n in range(20)))
        await d.settle()
        assert "Column_19" in d.text, "nothing runs off the right end"
        await d.press("f8")
        assert editor.text.startswith("select\n    0 as Column_0,\n")
        await d.press("ctrl+z")
        assert editor.text.startswith("SELECT 0 AS Column_0, 1")
        editor.write("SELECT 1)")
        await d.press("f8")
        await d.hears("cannot be formatted")
        assert editor.text == "SELECT 1)"


async def test_the_tree_names_tables_columns_and_queries(drive: Open) -> None:
    async with drive("large") as d:
        await d.press("8", "ctrl+l", "f7")
        tree = d.app.screen.query_one(Catalogue)
        assert tree.has_focus and "features" in d.text and "tables" in d.text
        nodes = [tree.get_node_at_line(n) for n in range(99)]
        line = next(n for n, node in enumerate(nodes) if node and str(node.label) == "texts")
        tree.move_cursor_to_line(line)
        await d.settle()
        assert "a row a text" in d.lines[-2].lower() or "text" in d.lines[-2]
        await d.press("enter", "space")
        await d.reach("n_tokens INTEGER", "down")
        editor = d.app.screen.query_one(SqlEditor)
        assert editor.text == "texts"
        await d.press("escape")
        assert editor.has_focus and not tree.display


async def test_tabs_keep_their_text_and_rows_and_outlive_the_program(drive: Open) -> None:
    async with drive("large") as d:
        await d.press("8")
        assert "3 rows" in d.text or " rows" in d.text, "the first statement's rows are there"
        await d.press("f9")
        editor = d.app.screen.query_one(SqlEditor)
        assert editor.text == "" and "2" in d.lines[1]
        await d.type("SELECT 7 AS seven")
        await d.press("f5")
        assert "[2] SELECT 7 AS seven" in d.lines[1]
        editor.write("SELECT 7 AS seven -- later")
        await d.press("alt+left")
        assert "FROM texts GROUP BY ALL" in editor.text
        table = d.app.screen.query_one("#rows", VirtualTable)
        assert table.columns[0].name == "category" and table.n_rows
        await d.press("alt+right")
        assert table.columns[0].name == "seven" and editor.text.endswith("-- later")
    async with drive("large") as d:
        await d.press("8")
        editor = d.app.screen.query_one(SqlEditor)
        table = d.app.screen.query_one("#rows", VirtualTable)
        assert editor.text == "SELECT 7 AS seven -- later"
        assert table.columns[0].name == "seven" and table.n_rows == 1
        await d.press("f12")
        assert "FROM texts" in editor.text
        await d.press("f12")
        assert editor.text == "" and len(read_tabs().tabs) >= 1


def test_damaged_tabs_are_a_first_one() -> None:
    many = SqlTabs()
    for n in range(30):
        many = many.added(SqlTab(f"SELECT {n}", None))
    assert len(many.tabs) == 20
    keep_tabs(many)
    assert read_tabs() == many
    bad = ('{"tabs": [], "current": 0}', '{"tabs": [{"text": 1, "ran": null}]}', "[", "3", "null",
           '{"tabs": {"a": 1}, "current": 0}', '{"tabs": [{"text": "x", "ran": 1}], "current": 0}',
           '{"tabs": [{"text": "x", "ran": null}], "current": 1e999}')  # fmt: skip
    for text in bad:
        tabs_path().write_text(text)
        assert read_tabs() == SqlTabs(), text
    tabs_path().write_text('{"tabs": [{"text": "x", "ran": null}], "current": 99}')
    assert read_tabs() == SqlTabs((SqlTab("x"),))


async def test_c_draws_the_column_under_the_cursor(drive: Open) -> None:
    async with drive("large") as d:
        await d.press("8")
        d.app.screen.query_one(SqlEditor).write(
            "SELECT range AS x, range * range AS y, 'row ' || range AS name FROM range(50)"
        )
        await d.press("f5", "f6", "c")
        assert (
            "line: x, y" in d.text
            and "y against x" in d.text
            and "50 rows" in d.text
            and "2,401" in d.text
        )
        await d.press("t")
        assert "points: x" in d.text
        await d.press("y")
        assert "histogram: x" in d.text and "50 values in" in d.text
        await d.press("x", "x")
        assert "bars: name" in d.text and "row 17" in d.text
        await d.press("escape")
        assert isinstance(d.app.screen, SqlScreen)


def test_charts_of_any_column() -> None:
    odd = pl.DataFrame(
        {
            "n": [1.0, None, float("nan"), float("inf"), -3.0],
            "s": ["a", None, "\x1b[31m", "a", "b"],
            "l": [[1], [2], None, [], [3]],
            "z": [0, 0, 0, 0, 0],
            "none": [None] * 5,
        },
        strict=False,
    )
    for x in odd:
        for y in (None, *odd):
            if y is None or is_number(y):
                for draw in kinds_of(x, y).values():
                    shown = draw(x, y, 60, 12).plain
                    assert "\x1b" not in shown and len(shown.split("\n")) <= 16
    values = pl.Series("n", [1.0, 1.0, 2.0, 4.0])
    drawn = histogram(values, None, 8, 6).plain.split("\n")
    assert drawn[-1] == "n: 4 values in 3 ranges, at most 2 in one"
    assert drawn[0].startswith("██")


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
        assert "all saes  FROM saes" in d.text and "SELECT 2 AS two" in d.text
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


async def test_ids_are_names_and_counts_are_numbers(drive: Open) -> None:
    async with drive("large") as d:
        await d.press("8")
        d.app.screen.query_one(SqlEditor).write("SELECT 1234 AS feature_id, 5678 AS n_tokens")
        await d.press("f5")
        assert "1234" in d.text and "5,678" in d.text and "1,234" not in d.text
