"""Curves of a training in the Jobs view, as a person sees them."""

from pathlib import Path

import polars as pl
import pytest

from energylens.tui.widgets.curves import curve_line
from tests.tui.conftest import Open

SCHEMA = ["step", "n_tokens", "sae", "metric", "value"]


def write(folder: Path, steps: range) -> None:
    rows = [
        (step, step * 10, sae, metric, value)
        for step in steps
        for sae, factor in (("first", 1.0), ("second", 2.0))
        for metric, value in (
            ("loss", factor * 100 / step),
            ("fvu", factor / step),
            ("l0", 32.0),
            ("dead_share", 0.25),
            ("learning_rate", 1e-3),
        )
    ]
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    frame.write_parquet(folder / "metrics.parquet")


@pytest.mark.parametrize("size", ["small", "large"])
async def test_curves_are_drawn_and_drawn_anew(drive: Open, size: str, tmp_path: Path) -> None:
    write(tmp_path, range(1, 9))
    async with drive(size) as driver:
        await driver.press("9", "t")
        assert "a training's directory" in driver.text
        await driver.type(str(tmp_path))
        await driver.press("enter")
        await driver.until("fvu (unexplained variance)")
        lines = driver.lines
        assert any("step 8" in line for line in lines)
        place = next(n for n, line in enumerate(lines) if "first" in line)
        assert "100.0 to 12.500" in lines[place] and "200.0 to 25.000" in lines[place + 2]
        # second / step on one scale from 12.5 to 200, by hand: eighths of (200/s - 12.5) / 187.5
        assert "█▄▃▂▂▁▁▁" in lines[place + 3]
        write(tmp_path, range(1, 21))
        await driver.until("step 20")
        await driver.press("escape")
        assert "a training's directory" not in driver.text and "Jobs" in driver.text


async def test_what_is_no_training_is_said(drive: Open, tmp_path: Path) -> None:
    async with drive("large") as driver:
        await driver.press("9", "t")
        await driver.type(str(tmp_path))
        await driver.press("enter")
        await driver.until("energylens train sae")
        assert "there is no" in driver.text
        await driver.press("escape")
        (tmp_path / "metrics.parquet").write_bytes(b"no parquet")
        await driver.press("t")
        await driver.press("enter")
        await driver.until("cannot be read")


def test_a_curve_has_a_cell_a_value_or_their_mean() -> None:
    assert curve_line([0, 1, 2, 3, 4, 5, 6, 7], 0, 7, 80) == "▁▂▃▄▅▆▇█"
    assert curve_line([0, 0, 7, 7], 0, 7, 2) == "▁█"
    assert curve_line([1, float("nan"), 1], 1, 1, 9) == "▁·▁"
    assert curve_line([], 0, 1, 9) == ""
