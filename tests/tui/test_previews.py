"""Beside rows of SQL and matches of two SAEs stands what enter opens, and nothing where there is
nothing to open."""

from pathlib import Path

from energylens.tui.kinds.preview import Preview
from energylens.tui.screens.text import TextScreen
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.tui.conftest import Driver, Open


async def asked(d: Driver, statement: str) -> Preview:
    await d.press("8")
    d.app.screen.query_one("#editor").focus()
    await d.press("ctrl+l", *statement, "f5", "f6", "down")
    await d.pilot.pause(0.2)
    await d.settle()
    return d.app.screen.query_one(Preview)


async def test_rows_of_features_and_texts_have_previews_and_counts_have_none(
    drive: Open, rich_path: Path
) -> None:
    async with drive("160x45", rich_path) as d:
        pane = await asked(d, "FROM features WHERE sae_id = 'two' ORDER BY feature_id")
        assert pane.display and "Feature 1  two" in d.text
        pane = await asked(d, "FROM texts ORDER BY text_id")
        assert pane.display and "text 1, shaded by energy" in d.text
        pane = await asked(d, "SELECT count(*) FROM texts UNION ALL SELECT 2")
        assert not pane.display
        await d.pilot.resize_terminal(80, 24)
        assert not (await asked(d, "FROM features ORDER BY feature_id")).display
        for view in "357":
            await d.press(view)
            assert not d.app.screen.query_one(Preview).display


async def test_matches_of_two_saes_have_previews(drive: Open, rich_path: Path) -> None:
    async with drive("160x45", rich_path) as d:
        await d.press("down", "equals_sign", "down", "equals_sign", "tab", "down")
        await d.pilot.pause(0.2)
        await d.settle()
        assert d.app.screen.query_one(Preview).display and "  one" in d.text
        assert "tokens in" in d.text and "│ Feature " in d.text


async def test_features_of_a_token_of_a_text_have_previews(drive: Open, rich_path: Path) -> None:
    async with drive("160x45", rich_path) as d:
        await d.press("7", "t")
        await d.until("activ.")
        await d.pilot.pause(0.3)
        await d.settle()
        pane = d.app.screen.query_one(Preview)
        first = d.app.screen.query_one("#text-features", VirtualTable)

        def ids() -> list[int]:
            assert isinstance(d.app.screen, TextScreen)
            return d.app.screen.frame("text-features")["feature_id"].to_list()

        assert pane.display and f"Feature {ids()[0]} " in d.text
        await d.press("tab", "down")
        await d.pilot.pause(0.3)
        await d.settle()
        assert f"Feature {ids()[1]} " in d.text
        await d.pilot.resize_terminal(160, 24)
        assert not pane.display and first.size.height > 12
        await d.pilot.resize_terminal(100, 45)
        assert not pane.display
