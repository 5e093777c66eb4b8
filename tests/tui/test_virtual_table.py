"""The table draws what stands in its rows, wherever it is scrolled to."""

import polars as pl
import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult

from tui.sources import FrameRows
from tui.widgets.virtual_table import TableColumn, VirtualTable

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
            assert heading[start : start + column.width + 2].strip() == column.name
            for row, value in enumerate(ROWS[column.name]):
                _, cell, _ = lines[row + 1].divide([start, start + column.width + 2, 30])
                shown = cell.text.strip()
                assert cell.cell_length == column.width + 2
                if cell_len(value) <= column.width:
                    assert shown == value.strip()
                else:
                    assert shown.endswith("…") and value.startswith(shown[:-1].strip())
