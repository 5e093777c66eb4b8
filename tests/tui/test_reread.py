"""`R` shows what other programs have written into the store since it was opened."""

import shutil
from pathlib import Path

import pytest

from energylens.db.explanations import Explanation, write_explanations
from energylens.db.layout import StoreLayout
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.tui.conftest import Open

BOTH = pytest.mark.parametrize("size", ["small", "large"])


@BOTH
async def test_a_run_ingested_meanwhile_comes_into_an_empty_store(
    drive: Open, store_path: Path, tmp_path: Path, size: str
) -> None:
    path = tmp_path / "growing.lens"
    shutil.copytree(store_path, path, ignore=shutil.ignore_patterns("runs"))
    (path / "runs").mkdir()
    run = StoreLayout(store_path).runs()[0].root
    async with drive(size, path) as d:
        assert "0 runs" in d.text
        shutil.copytree(run, path / "runs" / run.name)
        await d.press("R")
        await d.hears("read again: 1 run, ")
        assert "1 run ·" in d.text and "mlp" in d.text
        await d.press("2")
        assert d.app.screen.query_one("#list", VirtualTable).n_rows > 0


@BOTH
async def test_explanations_read_meanwhile_are_shown_where_one_stands(
    drive: Open, store_path: Path, tmp_path: Path, size: str
) -> None:
    path = Path(shutil.copytree(store_path, tmp_path / "tiny.lens"))
    run = StoreLayout(path).runs()[0]
    async with drive(size, path) as d:
        await d.press("2", "down", "down", "enter")
        screen = d.app.screen
        assert isinstance(screen, FeatureScreen)
        place = screen.feature_in_view()
        assert place is not None
        found = Explanation(
            run.root.name, place.selection.sae.sae_id, place.feature_id, "odd words"
        )
        write_explanations(run, place.selection.sae.sae_id, [found])
        await d.press("R")
        await d.until("odd words")
        await d.press("escape", "R")
        assert d.app.screen.query_one("#list", VirtualTable).cursor_row == 2
        assert "odd words" in d.text or size == "small", "its label, where there is room"
        await d.press("1", "down", "R")
        assert d.app.screen.query_one("#saes", VirtualTable).cursor_row == 1, "the cursor stays"
