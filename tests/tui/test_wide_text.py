"""Wide characters, right-to-left text, emoji and controls do not break a line."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult

from energylens.queries.display import visible
from energylens.queries.shading import ShadedToken
from energylens.tui.sources import FrameRows
from energylens.tui.widgets.cells import fit
from energylens.tui.widgets.heatmap import HeatCell, Heatmap
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.token_text import TokenText
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable

WORDS = (
    "日本語", "한국어", "مرحبا", "שלום", "👩‍👩‍👧‍👦", "🇩🇪", "é", "क्षि", "\u202eabc",
    "a\tb\n", "\x1b[31m", "ﷺ",
    "\u200b", "👍🏽", "ￆ", "〇" * 30,
)  # fmt: skip


@given(st.text(), st.integers(2, 30), st.booleans())
def test_a_cell_is_as_wide_as_its_column(text: str, width: int, right: bool) -> None:
    shown = fit(visible(text), TableColumn("x", "x", width, right=right))
    assert cell_len(shown) == width


class Texts(App[None]):
    """A table, a heatmap and tokens, all of awkward words."""

    def compose(self) -> ComposeResult:
        tokens = [
            ShadedToken(n, n, word, word.encode("utf-8", "replace"), False, float(n), 1.0)
            for n, word in enumerate(WORDS)
        ]
        yield VirtualTable((TableColumn("w", "word", 9, visible), TableColumn("n", "n", 4, str)))
        yield Heatmap()
        yield TokenText("heading", tokens, 3, 10.0, is_whole=True)
        yield KeyBar()

    def on_mount(self) -> None:
        rows = pl.DataFrame({"w": list(WORDS), "n": list(range(len(WORDS)))})
        self.query_one(VirtualTable).show(FrameRows(rows))
        cells = [[HeatCell("1.0", 0.5)] * len(WORDS)] * 2
        self.query_one(Heatmap).show(["one", "two"], [visible(w) for w in WORDS], cells)


@pytest.mark.parametrize("size", [(80, 24), (61, 40), (160, 45)])
async def test_every_line_of_the_screen_is_as_wide_as_the_screen(size: tuple[int, int]) -> None:
    async with Texts().run_test(size=size) as pilot:
        await pilot.pause()
        strips = pilot.app.screen._compositor.render_strips()
        assert [strip.cell_length for strip in strips] == [size[0]] * size[1]
        for strip in strips:
            assert cell_len(strip.text) == strip.cell_length
            assert not any(ord(character) < 32 for character in strip.text)
        table = pilot.app.query_one(VirtualTable)
        for row in range(min(len(WORDS), table.size.height - 1)):
            line = table.render_line(row + 1).text
            assert line[: len(line)].rstrip().endswith(str(row)), "columns stay in their place"
