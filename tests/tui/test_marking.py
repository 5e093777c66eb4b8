"""Stars, notes, comparisons, masked tokens, and what a feature shows beside its contexts."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from energylens.db.layout import StoreLayout
from energylens.db.notes import Note, read_notes
from energylens.ingest.plan import IngestConfig
from energylens.queries.catalog import open_catalog
from energylens.queries.contexts import activation_samples
from energylens.queries.display import visible
from energylens.queries.features import best_features
from energylens.queries.masks import Unmasked
from energylens.queries.specialists import layer_progression
from energylens.tui.address import Told
from energylens.tui.screens.compare_features import CompareFeaturesScreen
from energylens.tui.screens.compare_runs import CompareRunsScreen
from energylens.tui.screens.compare_saes import CompareSaesScreen
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.feature_texts import FeatureTextsScreen
from energylens.tui.screens.text import TextScreen
from energylens.tui.settings import Settings
from energylens.tui.widgets.scatter import scatter
from energylens.tui.widgets.token_text import TokenText
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.conftest import make_store
from tests.tui.conftest import Open

BOTH = pytest.mark.parametrize("size", ["small", "large"])


@pytest.fixture
def path(rich_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rich_path, tmp_path / "rich.lens"))


def notes(path: Path) -> list[Note]:
    return read_notes(StoreLayout(path).runs()[0].notes)


@BOTH
async def test_a_feature_is_starred_and_noted_from_the_list(drive: Open, path: Path, size) -> None:
    async with drive(size, path) as d:
        await d.press("2", "down", "down")
        table = d.app.screen.query_one("#list", VirtualTable)
        wanted = table.value()
        await d.press("asterisk")
        await d.hears(f"feature {wanted}: starred")
        assert table.value() == wanted, "the cursor stays"
        await d.press("n")
        assert f"Note about feature {wanted}" in d.text
        await d.type("[b] brackets")
        await d.press("enter")
        await d.hears("noted: [b] brackets")
        kept = {n.feature_id: n for n in notes(path)}[wanted]
        assert kept.is_starred and kept.note == "[b] brackets"
        await d.press("enter")
        assert isinstance(d.app.screen, FeatureScreen)
        assert f"Feature {wanted} ★" in d.text and "[b] brackets" in d.text
        await d.press("asterisk", "n", *["backspace"] * 20, "enter")
        await d.settle()
        kept = {n.feature_id: n for n in notes(path)}[wanted]
        assert (kept.is_starred, kept.note) == (False, None)
        assert "★" not in d.text


async def test_stars_are_kept_from_every_list_of_features(drive: Open, path: Path) -> None:
    before = len(notes(path))
    async with drive("large", path) as d:
        for view, keys in (("4", ()), ("5", ()), ("3", ("enter", "down")), ("7", ("t", "tab"))):
            await d.press(view, *keys, "asterisk")
            await d.hears("starred")
    assert len(notes(path)) > before


@BOTH
async def test_two_features_stand_side_by_side(drive: Open, path: Path, size) -> None:
    with open_catalog(path) as store:
        run = store.runs[0].info.run_id
        one, other = best_features(store, run, "mlp", k=2)["feature_id"].to_list()
    async with drive(size, path) as d:
        await d.press("2", "equals_sign")
        await d.hears(f"feature {one} marked")
        await d.press("down", "equals_sign")
        assert isinstance(d.app.screen, CompareFeaturesScreen)
        for said in ("both active on", "Jaccard", str(one), str(other), "active tokens"):
            assert said in d.text, said
        assert d.lines[-2].strip().startswith(f"{one} of mlp · {other} of mlp")
        assert len(d.app.screen.query(TokenText)) >= 2
        await d.press("tab", "right")
        assert "activation" in d.lines[-2]
        await d.press("escape", "equals_sign", "equals_sign")
        assert "side by side" not in d.lines[0], "a feature is not compared with itself"


@BOTH
async def test_two_saes_and_their_matches(drive: Open, path: Path, size) -> None:
    async with drive(size, path) as d:
        await d.press("down", "equals_sign", "down", "equals_sign")
        assert isinstance(d.app.screen, CompareSaesScreen)
        for said in ("architecture", "L0", "fvu"):
            assert said in d.text, said
        table = d.app.screen.query_one("#matches", VirtualTable)
        assert table.n_rows, "neighbouring layers have stored matches"
        await d.press("tab", "enter")
        assert isinstance(d.app.screen, CompareFeaturesScreen)


async def test_two_runs_are_held_against_each_other(
    drive: Open, tmp_path: Path, config: IngestConfig
) -> None:
    path = tmp_path / "two.lens"
    make_store(path, config)
    make_store(path, replace(config, n_ctx=12, run_id="other"))
    async with drive("large", path) as d:
        await d.press("equals_sign", "down", "down", "equals_sign")
        assert "their runs, with tests over texts" in d.text
        await d.press("down", "enter")
        assert isinstance(d.app.screen, CompareRunsScreen)
        await d.until("[energies]")
        assert "text by text" in d.text and "difference" in d.text
        for part in ("saes", "features", "specialists", "energies"):
            await d.press("t")
            assert f"[{part}]" in d.text


@BOTH
async def test_all_strengths_and_masked_tokens(drive: Open, store, run_id, size) -> None:
    async with drive(size) as d:
        await d.press("2", "enter", "i")
        assert isinstance(d.app.screen, FeatureScreen)
        place = d.app.screen.feature_in_view()
        assert place is not None
        feature_id = place.feature_id
        k = (5 if size == "small" else 45 // 4) // 5 + 1
        found = activation_samples(store, run_id, "mlp", feature_id, k=k)
        drawn = list(d.app.screen.query(TokenText))
        assert len(drawn) == len(found)
        assert size == "small" or "from all strengths" in d.lines[-2]
        await d.press("i", "M")
        for said in ("special", "first", "sinks"):
            assert said in d.text, said
        await d.press("M", "escape")
        assert d.app.workspace.unmasked == Unmasked(True, True, True)
        rows = store.cursor().execute(
            "SELECT count(*) FROM codes WHERE sae_id = 'mlp' AND feature_id = $f",
            {"f": feature_id},
        )
        assert f"{rows.fetchall()[0][0]:,} activations" in d.text, "masked ones are counted"
        await d.press("M", "M", "down", "space", "escape")
        assert d.app.workspace.unmasked == Unmasked(first=True)
        assert size == "small" or "with first tokens" in d.lines[-2]


async def test_energies_are_shaded_too(drive: Open) -> None:
    async with drive("large") as d:
        await d.press("2", "enter")
        text = next(iter(d.app.screen.query(TokenText)))
        by_activation = [span for span in text.render().spans if "on #" in str(span.style)]
        await d.press("u")
        by_energy = [span for span in text.render().spans if "on #" in str(span.style)]
        assert len(by_energy) > len(by_activation), "nearly every token has an energy"


@pytest.mark.parametrize("keys", [(), ("u", "u")], ids=["text", "energies under it"])
async def test_a_click_goes_to_a_token(drive: Open, keys: tuple[str, ...]) -> None:
    async with drive("large") as d:
        await d.press("2", "enter", "space", *keys)
        text = d.app.screen.query(TokenText).first()
        before = text.tokens[:3]
        place = sum(max(cell_len(visible(t.label)) + 1, len(f"{t.energy:.1f}")) + 1 for t in before)
        if not keys:
            place = sum(cell_len(visible(t.label)) for t in before)
        assert text.cursor != 3
        assert await d.pilot.click(text, offset=(2 + place, 1))
        await d.settle()
        assert text.has_focus and text.cursor == 3
        assert f"token {text.tokens[3].token_index}" in d.lines[-2]


@BOTH
async def test_energies_stand_under_their_tokens(drive: Open, size: str) -> None:
    async with drive(size) as d:
        await d.press("2", "enter", "space", "u", "u", "v")
        text = next(iter(d.app.screen.query(TokenText)))
        lines = text.render().plain.split("\n")[1:]
        assert text.size.height == len(lines) + 1, "all of it can be seen"
        assert all(cell_len(line) <= text.content_size.width for line in lines)
        shown = iter([number for line in lines[1::2] for number in line.split()])
        for token in text.tokens:
            assert next(shown) == ("·" if token.energy is None else f"{token.energy:.1f}")
        above, under = lines[0], lines[1]
        starts = [found.start() for found in re.finditer(r"\S+", under)]
        assert all(place == 0 or above[place - 1] in " ¹²³⁴⁵⁶⁷⁸⁹" for place in starts)
        await d.press("u")
        assert text.render().plain.count("\n") == 1, "and are gone again"


@BOTH
async def test_every_text_of_a_feature(drive: Open, store, run_id, size) -> None:
    async with drive(size) as d:
        await d.press("2", "enter", "t")
        assert isinstance(d.app.screen, FeatureTextsScreen)
        table = d.app.screen.query_one("#means", VirtualTable)
        n = store.cursor().execute("SELECT count(*) FROM texts WHERE n_tokens > 0").fetchall()[0][0]
        assert table.n_rows == n and f"of {n}" in d.lines[-2]
        await d.press("enter")
        assert isinstance(d.app.screen, TextScreen) and "shaded by" in d.text


@BOTH
async def test_layers_and_scatter(drive: Open, path: Path, size) -> None:
    with open_catalog(path) as store:
        run = store.runs[0].info.run_id
        layers = layer_progression(store, run)
    async with drive(size, path) as d:
        await d.press("3", "t")
        for row in layers.iter_rows(named=True):
            assert f"{row['n_found']} of {row['n_categories']}" in d.text
        assert "coverage" in d.text and "█" in d.text
        await d.press("t", "4", "x")
        assert "energy (nats) against activation" in d.text
        assert any(0x2800 < ord(c) < 0x2900 for c in d.text), "dots are drawn"
        await d.press("t")
        assert "g lens against activation" in d.text
        await d.press("escape")


def test_a_scatter_plot_puts_points_where_they_belong() -> None:
    lines = scatter([(0.0, 0.0), (1.0, 1.0)], 10, 4, "x", "y").plain.splitlines()
    assert lines[1].endswith("⠈") and lines[1].startswith("   1.000")
    assert lines[4].endswith("⡀" + "⠀" * 9)
    assert "2 tokens" in lines[0]
    assert scatter([(1.0, 2.0)] * 3, 10, 4, "x", "y").plain.count("⠀") == 39
    assert "no token" in scatter([], 10, 4, "x", "y").plain


async def test_what_one_person_stars_another_takes_in(
    drive: Open, path: Path, rich_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = Path(shutil.copytree(rich_path, tmp_path / "other.lens"))
    async with drive("large", path, Settings(rater="ada"), Told(feature="one:3")) as d:
        await d.press("asterisk", "e")
        await d.type("to share")
        await d.press("enter", "enter")
        await d.hears("the list written to")
    (found,) = tmp_path.glob("*.json")
    async with drive("large", other, Settings(rater="bob"), Told(feature="one:3")) as d:
        assert "Feature 3 ★" not in d.text
        await d.press("colon")
        await d.type("shared")
        await d.press("enter")
        await d.press("ctrl+u", *found.name, "enter")
        await d.hears("1 notes new or changed")
        await d.settle()
        assert "Feature 3 ★" in d.text
        assert [n.author for n in notes(other) if n.feature_id == 3] == ["ada"]
        await d.press("colon")
        await d.type("shared")
        await d.press("enter", "ctrl+u", *"nothing.json", "enter")
        await d.hears("is no list that")
