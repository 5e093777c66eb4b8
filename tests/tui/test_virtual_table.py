"""The table draws what stands in its rows, wherever it is scrolled to."""

from random import Random

import polars as pl
import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult

from energylens.tui.sources import FrameRows
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable

WORDS = [
    "plain",
    "日本語のとても長い文",
    "e\u0301te\u0301",
    "👩‍💻 x",
    "",
    "[b]no markup[/b]",
    "ω·…",
]
ROWS = pl.DataFrame({f"c{n}": WORDS[n % 7 :] + WORDS[: n % 7] for n in range(12)})
COLUMNS = [TableColumn(f"c{n}", f"c{n}", 5 + n % 4, right=n % 2 == 0) for n in range(12)]


class Shown(App[None]):
    def compose(self) -> ComposeResult:
        yield VirtualTable(COLUMNS, id="table")

    def on_mount(self) -> None:
        self.query_one(VirtualTable).show(FrameRows(ROWS))


@pytest.mark.parametrize("steps", range(0, 12, 3))
async def test_every_line_is_as_wide_as_the_view_and_starts_where_it_should(steps: int) -> None:
    app = Shown()
    async with app.run_test(size=(30, 12)) as pilot:
        await pilot.press(*["right"] * steps, "down")
        table = app.query_one(VirtualTable)
        lines = [table.render_line(y) for y in range(12)]
        assert all(line.cell_length == 30 for line in lines)
        heading = lines[0].text
        left = table.scroll_offset.x
        for number, column in enumerate(COLUMNS):
            start = sum(c.width + 2 for c in COLUMNS[:number]) - left
            if start < 0 or start + column.width + 2 > 30:
                continue
            assert heading[start : start + column.width + 2].strip("‹› ") == column.name
            for row, value in enumerate(ROWS[column.name]):
                _, cell, _ = lines[row + 1].divide([start, start + column.width + 2, 30])
                shown = cell.text.strip()
                assert cell.cell_length == column.width + 2
                if cell_len(value) <= column.width:
                    assert shown == value.strip()
                else:
                    assert shown.endswith("…") and value.startswith(shown[:-1].strip())


class Long(App[None]):
    """Two tables of the same rows, one with a border, which Textual draws the whole of."""

    CSS = "#bordered { border-top: solid white; }"
    ROWS = pl.DataFrame({"n": range(5000), "word": [WORDS[n % 7] for n in range(5000)]})
    COLUMNS = (TableColumn("n", "n", 6, right=True), TableColumn("word", "word", 20))

    def compose(self) -> ComposeResult:
        yield VirtualTable(self.COLUMNS, id="plain")
        yield VirtualTable(self.COLUMNS, id="bordered")

    def on_mount(self) -> None:
        for table in self.query(VirtualTable):
            table.show(FrameRows(self.ROWS))


MOVES = ["down", "up", "pagedown", "pageup", "end", "home", "right", "left"]


async def test_lines_drawn_before_are_the_lines_of_now() -> None:
    app, random = Long(), Random(5)
    async with app.run_test(size=(40, 21)) as pilot:
        table = app.query_one("#plain", VirtualTable)
        for move in random.choices(MOVES, k=60):
            await pilot.press(move)
            strips = app.screen._compositor.render_strips()
            first = table.scroll_offset.y
            assert first <= table.cursor_row < first + table.size.height - 1
            for place, strip in enumerate(strips[1 : table.size.height]):
                number, word, _ = strip.divide([8, 30, 40])
                assert number.text == f" {first + place:>6} "
                assert word.text.strip() == WORDS[(first + place) % 7].strip()
                is_cursor = first + place == table.cursor_row
                assert any(s.style.underline for s in strip if s.style) == is_cursor
            assert strips[0].text == strips[11].text, "under its border"
