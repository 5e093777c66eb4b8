"""Every view at any size: nothing falls off, no number is cut, and every way out is told."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from energylens.tui.modals.help import HelpModal
from energylens.tui.widgets.heatmap import Heatmap
from energylens.tui.widgets.histogram import Histogram, bars, fit_bins
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.tui.conftest import Driver, Open

VIEWS: tuple[tuple[str, ...], ...] = (
    ("1",), ("2",), ("2", "enter"), ("2", "enter", "t"), ("3",), ("3", "t"), ("4",), ("5", "f"),
    ("6",), ("6", "t"), ("7",), ("7", "v"), ("7", "enter"), ("7", "t"), ("8", "f5"), ("9",), ("0",),
    ("0", "enter"), ("2", "d"),
)  # fmt: skip
BACK: dict[tuple[str, ...], tuple[str, ...]] = {
    ("3", "t"): ("t",),
    ("5", "f"): ("f",),
    ("6", "t"): ("t", "t"),
    ("7", "v"): ("v", "v"),
}
NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?(e[-+]\d+)?\*?")
SIZES = st.tuples(st.integers(60, 250), st.integers(15, 70))


def numbers(text: str) -> list[str]:
    return [word for word in text.split() if NUMBER.fullmatch(word)]


def check_tables(d: Driver, where: str) -> None:
    """Every number in a row of a table is one of the row's values, whole."""
    for table in d.app.screen.query(VirtualTable):
        inside = table.content_region
        if not table.display or inside.height < 2 or table.source is None:
            continue
        for line in range(1, inside.height):
            index = table.scroll_offset.y + line - 1
            row = table.source.row(index) if index < table.n_rows else None
            if row is None:
                continue
            right = inside.x + table.scrollable_content_region.width
            shown = d.lines[inside.y + line][inside.x : right]
            known = {
                word
                for column, value in zip(table.all_columns, row, strict=True)
                for word in column.show(value).split()
            }
            if shown.isascii():  # others are wider than their letters, and stand elsewhere
                assert set(numbers(shown)) <= known, f"{where} {table.id}: {shown!r} of {known}"


def check_maps(d: Driver, where: str) -> None:
    """Every cell of a map that is begun is whole."""
    for grid in d.app.screen.query(Heatmap):
        if not grid.display or not grid._cells:
            continue
        known = {cell.text for row in grid._cells for cell in row}
        label = grid._label_width
        for line in range(1, min(grid.region.height, len(grid._rows) + 1)):
            shown = d.lines[grid.region.y + line][grid.region.x : grid.region.right]
            words = shown[label:].replace("▐", " ").replace("▌", " ").split()
            assert set(words) <= known, f"{where}: {shown!r}"


def check_bars(d: Driver, where: str) -> None:
    """Every view can be gone to, and help and the palette are told of, each key whole."""
    for key in "123456789":
        assert re.search(rf"(^|\s){key}\b", d.lines[0]), f"{where}: {d.lines[0]}"
    (footer,) = d.app.screen.query(KeyBar)
    entries = [f"{shown} {binding.description}" for shown, binding in footer._entries()]
    rest = f" {d.lines[-1].strip()} "
    for entry in entries:
        rest = rest.replace(f" {entry} ", " ", 1)
    assert not rest.strip(), f"{where}: {rest!r} is no key of {entries}"
    assert "Help" in d.lines[-1] and "palette" in d.lines[-1], f"{where}: {d.lines[-1]}"


def check(d: Driver, where: str) -> None:
    width, height = d.app.size
    assert len(d.lines) == height
    strips = d.app.screen._compositor.render_strips()
    assert {strip.cell_length for strip in strips} == {width}, where
    assert all(cell_len(line) <= width for line in d.lines), where
    for histogram in d.app.screen.query(Histogram):
        if histogram.region.height and histogram._counts:
            assert histogram.size.height == histogram._lines + 2, f"{where}: wrapped"
    check_tables(d, where)
    check_maps(d, where)
    check_bars(d, where)


def look_at_one(d: Driver) -> None:
    """Look at the SAE whose features go together."""
    names = [choice.sae.sae_id for choice in d.app.workspace.choices]
    d.app.workspace.select(d.app.workspace.choices[names.index("one")])


async def look_at_everything(drive: Open, path: Path, sizes: Sequence[tuple[int, int]]) -> None:
    """Go to every view, and look at it at each size."""
    async with drive("80x24", path) as d:
        look_at_one(d)
        for keys in VIEWS:
            await d.press(*keys)
            for size in sizes:
                await d.pilot.resize_terminal(*size)
                await d.settle()
                check(d, f"{size} {keys}")
            await d.press(*BACK.get(keys, ()))
            while len(d.app.screen_stack) > 1:
                await d.press("escape")
            if keys[0] == "8":  # digits are text in the editor
                await d.press("escape")


ANY_SIZES = settings(
    max_examples=1,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # an example that is shrunk costs as much as all
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


async def test_every_view_fits_the_smallest_and_a_large_terminal(
    drive: Open, rich_path: Path
) -> None:
    await look_at_everything(drive, rich_path, [(60, 15), (250, 70)])


@ANY_SIZES
@given(sizes=st.lists(SIZES, min_size=2, max_size=2))
async def test_every_view_fits_any_terminal(
    drive: Open, rich_path: Path, sizes: list[tuple[int, int]]
) -> None:
    await look_at_everything(drive, rich_path, sizes)


@pytest.mark.slow
@settings(parent=ANY_SIZES, max_examples=20)
@given(sizes=st.lists(SIZES, min_size=4, max_size=4))
async def test_every_view_fits_any_of_many_terminals(
    drive: Open, rich_path: Path, sizes: list[tuple[int, int]]
) -> None:
    await look_at_everything(drive, rich_path, sizes)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=60), st.integers(1, 120))
def test_bars_fill_a_width_and_count_all(counts: list[int], width: int) -> None:
    merged = fit_bins(counts, width)
    assert sum(merged) == sum(counts) and len(merged) <= width
    assert len(merged) == len(counts) or len(merged) > width // 2, "no fewer bins than need be"
    drawn = bars(merged, 3, width)
    assert all(len(line) == width for line in drawn)
    tallest = merged.index(max(merged))
    begin, end = (place * width // len(merged) for place in (tallest, tallest + 1))
    full = "█" if max(merged) else " "
    assert {line[begin:end] for line in drawn} == {full * (end - begin)}


async def test_a_pane_is_shown_alone_and_the_next_and_all(drive: Open, rich_path: Path) -> None:
    def wide(d: Driver, name: str) -> int:
        widget = d.app.screen.query_one(name)
        return widget.outer_size.width if widget.display else 0

    async with drive("160x45", rich_path) as d:
        look_at_one(d)
        await d.press("5", "f")
        before = wide(d, "#together")
        await d.press("z")
        assert wide(d, "#together") == 160 and not wide(d, "#preview")
        await d.press("z")
        assert wide(d, "#preview") == 160 and not wide(d, "#together")
        await d.until("promotes")
        await d.press("z")
        assert wide(d, "#together") == before and wide(d, "#preview") == 160 - before
        await d.press("greater_than_sign", "greater_than_sign")
        assert wide(d, "#preview") > 160 - before + 15
        await d.press("less_than_sign")
        assert 160 - before < wide(d, "#preview") < 160 - before + 30
    async with drive("80x24", rich_path) as d:
        await d.press("3", "z", "z", "z")
        assert wide(d, "#preview") == 80
        await d.until("promotes")


async def test_a_preview_comes_when_the_cursor_rests(
    drive: Open, rich_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with drive("160x45", rich_path) as d:
        look_at_one(d)
        await d.press("5", "f")
        await d.until("promotes")
        asked: list[str] = []
        ask: Callable = d.app.workspace.tasks.ask
        monkeypatch.setattr(
            d.app.workspace.tasks,
            "ask",
            lambda asker, topic, *rest: (asked.append(topic), ask(asker, topic, *rest)),
        )
        await d.press_ahead(*["down"] * 12)
        assert "preview" not in asked, "a held key asks nothing"
        feature = d.app.screen.feature_in_view().feature_id  # type: ignore[attr-defined]
        await d.until(f"Feature {feature} ")
        assert asked.count("preview") == 1


@pytest.mark.parametrize("keys", [("8",), ("2", "slash"), ("7", "slash"), ("p",)])
async def test_in_an_editor_letters_are_text_and_help_and_views_a_key_away(
    drive: Open, rich_path: Path, keys: tuple[str, ...]
) -> None:
    async with drive("small", rich_path) as d:
        look_at_one(d)
        await d.press(*keys)
        editor = d.app.focused
        await d.press("question_mark", "3")
        typed = getattr(editor, "text", "") or getattr(editor, "value", "")
        assert "?3" in typed and d.app.focused is editor
        said = d.text if len(d.app.screen_stack) > 1 else d.lines[-1]
        assert "F1 Help" in said or "F1 help" in said
        assert "^g Go to" in said or "ctrl+g" in said
        await d.press("f1")
        assert isinstance(d.app.screen, HelpModal)
        await d.press("f1")
        assert d.app.focused is editor
        await d.press("ctrl+g", *"energy", "enter")
        assert "7 Energy " in d.lines[0] and "hardest first" in d.text
