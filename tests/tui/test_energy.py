"""Energy: texts, hardest tokens and layers, and the landscape of a text, against the queries."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from energylens.db.store import Store
from energylens.queries.display import number, visible_token
from energylens.queries.energies import (
    barrier_tokens,
    drop_by_category,
    energy_by_layer,
    energy_trajectory,
    settling_layers,
    settling_summary,
    text_behaviour,
)
from energylens.tui.screens.landscape import LandscapeScreen
from energylens.tui.widgets.heatmap import Heatmap

BOTH = pytest.mark.parametrize("size", ["small", "large"])


@BOTH
async def test_the_energies_of_a_text_are_a_landscape(
    drive, rich: Store, rich_path: Path, rich_run: str, size: str
) -> None:
    texts = text_behaviour(rich, rich_run)
    async with drive(size, rich_path) as d:
        await d.press("7")
        assert "40 texts, hardest first" in d.text
        assert f"{texts['mean_energy'][0]:.3f}" in d.lines[2]
        await d.press("down", "enter")
        text_id = texts["text_id"][1]
        lens = energy_trajectory(rich, rich_run, text_id)
        first = lens.filter(lens["token_index"] == lens["token_index"].min()).sort("layer")
        assert f"text {text_id}, " in d.text
        for layer, energy in first.select("layer", "energy").iter_rows():
            name = f"L{layer}" if layer >= 0 else "embed"
            line = next(line for line in d.lines[2:] if line.startswith(name))
            assert f"{energy:.1f}" in line
        await d.press("right")
        second = settling_layers(rich, rich_run, text_id).row(1, named=True)
        assert f"settles at layer {second['settling_layer']}" in d.text
        assert f" at {second['pos']}" in d.lines[-2]
        await d.press("n")
        assert d.app.screen.query_one(Heatmap).cursor[1] != 1
        await d.press("escape")
        assert "40 texts, hardest first" in d.text


@BOTH
async def test_the_hardest_tokens_of_a_run_lead_into_their_texts(
    drive, rich: Store, rich_path: Path, rich_run: str, size: str
) -> None:
    found = barrier_tokens(rich, rich_run, k=1000)
    assert len(found) > 1
    async with drive(size, rich_path) as d:
        await d.press("7", "v")
        assert f"{len(found)} tokens, by how far they stand out" in d.lines[-2]
        first = found.row(0, named=True)
        for said in (f"{first['z']:.2f}", f"{first['energy']:.3f}", visible_token(first["token"])):
            assert said in d.lines[2]
        wanted = found.row(1, named=True)
        await d.press("down", "enter")
        assert isinstance(d.app.screen, LandscapeScreen)
        assert f"text {wanted['text_id']}, " in d.lines[-2]
        assert f" at {wanted['pos']}" in d.lines[-2], "the cursor is on the token"
        assert f"{visible_token(wanted['token'])}  next token" in d.text
        assert "▐" in d.text, "and the token is in view"
        await d.press("escape")
        assert "stand out" in d.lines[-2]
        category = found["category"].drop_nulls()[0]
        names = ["a", "b"]
        await d.press("f", *["down"] * (names.index(category) + 1), "enter")
        n = len(barrier_tokens(rich, rich_run, category, k=1000))
        assert f"{n} tokens" in d.lines[-2] and category in d.lines[-2]


@BOTH
async def test_each_layers_energy_by_category(
    drive, rich: Store, rich_path: Path, rich_run: str, size: str
) -> None:
    means = energy_by_layer(rich, rich_run)
    settled = settling_summary(rich, rich_run)
    async with drive(size, rich_path) as d:
        await d.press("7", "v", "v")
        lines = {line.split()[0]: line.split() for line in d.lines[2:6]}
        assert list(lines) == ["all", "a", "b", "·"], "texts without a category come last"
        for name, line in lines.items():
            picked = pl.col("is_all") if name == "all" else ~pl.col("is_all")
            if name != "all":
                picked &= pl.col("category").eq_missing(None if name == "·" else name)
            own, layers = settled.filter(picked), means.filter(picked).sort("layer")
            mean = np.average(own["settling_layer"], weights=own["n_tokens"])
            assert line[1:] == [f"{mean:.2f}", *(f"{e:.3f}" for e in layers["mean_energy"])]
        await d.press("enter", "t")
        assert not isinstance(d.app.screen, LandscapeScreen), "a category is no text"
        await d.press("v")
        line = next(line for line in d.lines[2:6] if line.split()[:1] == ["all"])
        drops = drop_by_category(rich, rich_run).filter("is_all").sort("layer")
        assert line.split()[1:] == [number(drop) for drop in drops["mean_drop"]]
        assert "nats that the blocks after each layer are worth" in d.text
        await d.press("v")
        assert "40 texts, hardest first" in d.lines[-2]
