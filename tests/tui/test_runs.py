"""Every run can be looked at, each view works with what the run has, and what it says is missing is
missing: held against the files of the run."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from textual.widgets import TextArea

from energylens.db.version import create_store
from energylens.tui.modals.cannot import Cannot
from energylens.tui.screens.overview import OverviewScreen
from tests.tui.conftest import Driver, Open

RUNS = ("full", "nosae", "noindex", "silent", "output", "plain", "dense", "kept")
SAE = "one"
SLOW = ("plain", "silent", "dense", "kept")
"""Looked at in the slow form."""
NO_INDEX = "has no index yet"
NO_SAE = "made without an SAE"
NO_ENERGY = "holds no energies."


@dataclass(frozen=True)
class Facts:
    """What lies in the directory of a run."""

    folder: Path

    def rows(self, where: str, column: str = "") -> int:
        """Rows of a table, or those with a value in a column."""
        files = list(self.folder.glob(where))
        if not column:
            return sum(pq.read_metadata(file).num_rows for file in files)
        tables = [pq.read_table(file, columns=[column]) for file in files]
        return sum(len(t) - t[column].null_count for t in tables)

    @property
    def saes(self) -> list[str]:
        return [sae["sae_id"] for sae in json.loads((self.folder / "run.json").read_text())["saes"]]

    @property
    def has_index(self) -> bool:
        return (self.folder / "index/manifest.json").exists()

    @property
    def has_categories(self) -> bool:
        return self.rows("shards/*/texts.parquet", "category") > 0

    @property
    def has_energy(self) -> bool:
        return self.rows("shards/*/tokens.parquet", "energy") > 0

    @property
    def has_lens(self) -> bool:
        return self.rows("shards/*/energies.parquet") > 0

    @property
    def has_routing(self) -> bool:
        return self.rows("shards/*/routing.parquet") > 0

    def n_pairs(self, least_both: int = 0, most_q: float = 2.0) -> int:
        """Pairs of features that are not dense, as often together and with such a q."""
        dense = {
            row["feature_id"]
            for file in self.folder.glob("index/features/*.parquet")
            for row in pq.read_table(file, columns=["feature_id", "is_dense"]).to_pylist()
            if row["is_dense"]
        }
        names = ["unit", "feature_id", "partner_id", "n_both", "q"]
        files = self.folder.glob("index/coactivation/*.parquet")
        return sum(
            row["unit"] == "token"
            and dense.isdisjoint((row["feature_id"], row["partner_id"]))
            and row["n_both"] >= least_both
            and (most_q > 1 or (row["q"] is not None and row["q"] <= most_q))
            for file in files
            for row in pq.read_table(file, columns=names).to_pylist()
        )

    def n_holding(self) -> int:
        return self.n_pairs(30, 0.05)

    def variants(self) -> set[str]:
        files = self.folder.glob("index/efas/*.parquet")
        tables = [pq.read_table(file, columns=["variant", "t"]).to_pylist() for file in files]
        return {row["variant"] for table in tables for row in table if row["t"] is not None}


def _needs(facts: Facts, *reasons: tuple[bool, str]) -> str | None:
    """The sentence of the first reason that holds; None where the view has rows."""
    return next((said for holds, said in reasons if holds), None)


def expected(facts: Facts) -> dict[tuple[str, ...], str | None]:
    """What each view says it lacks, by the keys that lead there."""
    no_sae, no_index = (not facts.saes, NO_SAE), (not facts.has_index, NO_INDEX)
    no_energy, no_routing = (
        (not facts.has_energy, NO_ENERGY),
        (
            not facts.has_routing,
            "holds no choices of routers",
        ),
    )
    no_lens = (not facts.has_lens, "no energies under the lens")
    no_category = (not facts.has_categories, "in no categories")
    variants = facts.variants()
    return {
        ("2",): _needs(facts, no_sae, no_index),
        ("3",): _needs(facts, no_sae, no_category, no_index),
        ("4",): _needs(
            facts,
            no_sae,
            no_index,
            no_energy,
            ("lens" not in variants, "gradient 'lens' is not computed"),
        ),
        ("4", "v", "down", "enter"): _needs(
            facts,
            no_sae,
            no_index,
            no_energy,
            ("own" not in variants, "gradient 'own' is not computed"),
        ),
        ("5",): _needs(facts, no_sae, no_index, (not facts.n_holding(), "No pair of features")),
        ("5", "f"): _needs(facts, no_sae, no_index, (not facts.n_pairs(), "Every pair")),
        ("6",): _needs(facts, no_routing),
        ("6", "t"): _needs(facts, no_routing, no_index),
        ("6", "t", "t"): _needs(facts, no_routing, no_sae, no_index),
        ("7",): _needs(facts, no_energy),
        ("7", "v", "v"): _needs(facts, no_lens),
        ("0",): "are not measured yet",
    }


CLAIMS: dict[str, Callable[[Facts], bool]] = {
    NO_SAE: lambda facts: not facts.saes,
    "no SAE": lambda facts: not facts.saes,
    NO_INDEX: lambda facts: not facts.has_index,
    "energylens index": lambda facts: not facts.has_index,
    "in no categories": lambda facts: not facts.has_categories,
    NO_ENERGY: lambda facts: not facts.has_energy,
    "no energies under the lens": lambda facts: not facts.has_lens,
    "no choices of routers": lambda facts: not facts.has_routing,
}
"""Words about what is missing, wherever they stand, and when they are true."""


def flat(d: Driver) -> str:
    """What the screen says, however it is broken into lines; the overview's list of runs apart."""
    return " ".join(" ".join(line.split()) for line in d.lines)


@pytest.mark.parametrize(
    "run",
    [pytest.param(run, marks=pytest.mark.slow) if run in SLOW else run for run in RUNS],
)
async def test_every_view_of_every_run_says_what_is_so(drive: Open, many: Path, run: str) -> None:
    facts = Facts(many / "runs" / run)
    async with drive("160x45", many) as d:
        for keys, lack in expected(facts).items():
            await d.press("colon", *f"run {run}", "enter", *keys)
            said = flat(d)
            for claim, is_true in CLAIMS.items():
                assert claim not in said or is_true(facts), f"{run} {keys} says '{claim}': {said}"
            if lack is not None:
                assert lack in said, f"{run} {keys} does not say '{lack}': {said}"
            else:
                assert not d.app.screen.query("Lacking"), f"{run} {keys}: {said}"
            assert run in d.lines[-2].split(), f"{keys}: {d.lines[-2]}"
            if facts.saes and keys[0] in "23456":
                assert d.lines[-2].endswith(f"{run} / {SAE}"), f"{keys}: {d.lines[-2]}"
            turn = {"5": "f", "6": "t", "7": "v"}.get(keys[0])
            if turn is not None and len(keys) > 1:  # round to where it began
                await d.press(*[turn] * ((2 if turn == "f" else 3) - len(keys) + 1))


async def test_the_overview_has_a_line_for_every_run(drive: Open, many: Path) -> None:
    async with drive("160x45", many) as d:
        for run in RUNS:
            assert any(line.split("│")[0].rstrip().endswith(run) for line in d.lines), run
        left = [line.split("│")[0].rstrip() for line in d.lines[2:]]
        row = next(n for n, line in enumerate(left) if line.endswith("nosae"))
        await d.press("home", *["down"] * row, "enter")
        assert "7 Energy" in d.lines[0] and "nosae / no SAE" in d.text
        assert "the cat sat" in d.text


async def test_a_run_is_chosen_by_key_by_name_and_from_the_palette(drive: Open, many: Path) -> None:
    async with drive("160x45", many) as d:
        await d.press("7", "C")
        assert "Which run?" in d.text and "nosae  corpus" in d.text
        await d.press("home", *["down"] * sorted(RUNS).index("nosae"), "enter")
        assert d.lines[-2].endswith("nosae / no SAE")
        await d.press("colon", *"run dense", "enter")
        assert d.lines[-2].endswith("dense / one")
        await d.press("colon", *"run n", "enter")
        await d.hears("could be")
        await d.press("ctrl+p", *"run: plain", "enter")
        await d.until("plain / one")


async def test_the_worker_is_asked_for_what_is_missing(drive: Open, many: Path) -> None:
    async with drive("small", many) as d:
        await d.press("colon", *"run noindex", "enter", "2")
        assert "energylens index" in d.text and "⏎ Make it" in d.lines[-1]
        asked = []
        d.app.workspace.jobs.keep = lambda *given: asked.append(given[:3])  # type: ignore[method-assign]
        await d.press("enter")
        assert asked == [("make the index", "index", "noindex")]
        await d.press("y")
        assert str(many) in d.app.clipboard and d.app.clipboard.startswith("energylens index ")
        assert d.app.clipboard.endswith("--run-id noindex")


@pytest.mark.parametrize("run", ["nosae", "full"])
async def test_a_prompt_is_typed_in_every_run(drive: Open, many: Path, run: str) -> None:
    async with drive("small", many) as d:
        await d.press("colon", *f"run {run}", "enter", "7")
        await d.press_ahead("p", *"def add q1")
        assert d.app.screen.query_one(TextArea).text == "def add q1"


@pytest.mark.parametrize("key", ["p", "M", "0", "C", "slash", "g", "n", "b"])
async def test_letters_behind_a_key_that_opens_nothing_are_no_keys(
    drive: Open, tmp_path: Path, key: str
) -> None:
    create_store(tmp_path / "empty.lens")
    view = {"M": "7", "g": "1"}.get(key, "1")
    async with drive("small", tmp_path / "empty.lens") as d:
        await d.press(view)
        before = type(d.app.screen)
        await d.press_ahead(key, *"2q4 def")
        assert isinstance(d.app.screen, Cannot)
        await d.press("enter")
        assert type(d.app.screen) is before


async def test_letters_behind_a_filter_of_nothing_are_no_keys(drive: Open, many: Path) -> None:
    async with drive("small", many) as d:
        await d.press("colon", *"run nosae", "enter", "5")
        await d.press_ahead("slash", *"q2")
        assert isinstance(d.app.screen, Cannot)


async def test_an_empty_store_says_so_in_every_view(drive: Open, tmp_path: Path) -> None:
    create_store(tmp_path / "empty.lens")
    async with drive("small", tmp_path / "empty.lens") as d:
        assert isinstance(d.app.screen, OverviewScreen)
        for key in "234567":
            await d.press(key)
            assert "holds no run yet" in d.text, key
