"""The exploration of explore_in_tmux.py on the demo's store, in a real terminal."""

import shutil
from pathlib import Path

import pytest

from energylens.cli.programs import demo
from tests.tui.explore_in_tmux import explore


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_a_specialist_is_found_read_ablated_asked_for_and_exported(tmp_path: Path) -> None:
    store = tmp_path / "demo.lens"
    demo(store, no_tui=True)
    seen = explore(store, tmp_path)
    assert seen[-1].startswith("exported: ") and len(seen) == 10, seen
