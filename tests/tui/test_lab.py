"""Recomputation by keyboard, with a real worker: ablate, add, steer, read a text, jobs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import Input

from energylens.lens.gains import KIND, Gains, gains_bytes
from energylens.queries.catalog import open_catalog
from energylens.queries.display import number, visible_token
from energylens.tui.address import Told
from energylens.tui.jobs import Job
from energylens.tui.screens.attribution import AttributionScreen
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.lab import LabScreen
from energylens.tui.screens.prompt import PromptScreen
from energylens.tui.screens.steering import SteeringScreen
from energylens.tui.widgets.token_pairs import TokenPairs, signed
from tests.tui.conftest import SIZES, Driver, Open


@pytest.fixture
def path(rich_path: Path, tmp_path: Path) -> Path:
    shutil.copytree(rich_path, tmp_path / "rich.lens")
    return tmp_path / "rich.lens"


async def worked(driver: Driver, done: Callable[[Job], bool] = lambda job: True) -> None:
    """Wait until the worker has answered everything."""
    jobs = driver.app.workspace.jobs
    for _ in range(1200):
        if jobs.listed and not jobs.running and done(jobs.listed[-1]):
            await driver.settle()
            return
        await driver.pilot.pause(0.1)
    raise AssertionError(f"{[(job.title, job.state, job.log) for job in jobs.listed]}")


async def open_feature(driver: Driver) -> None:
    await driver.press("2", "down", "enter")
    assert isinstance(driver.app.screen, FeatureScreen)


EDITED = ("edited", "flipped", "noise", "like", "before", "after", "ablated")


async def test_a_feature_is_ablated_added_kept_and_steered_by(drive: Open, path: Path) -> None:
    async with drive("small", path) as driver:
        await open_feature(driver)
        await driver.press("a")
        assert isinstance(driver.app.screen, LabScreen)
        await worked(driver)
        for size in ("large", "small"):
            await driver.pilot.resize_terminal(*SIZES[size])
            await driver.settle()
            for word in EDITED:
                assert word in driver.text, word
            assert "first choice changed" in driver.text, "the model routes"
        assert driver.app.screen.query_one(TokenPairs)._tokens
        pairs = driver.app.screen.query_one(TokenPairs)
        pairs.show(["word"] * 200, [0.5] * 200)
        await driver.settle()
        assert "before" in driver.text and "ablated" in driver.lines[-2], "a long text leaves room"
        await driver.press("plus")
        await worked(driver)
        assert "+0.50 of its maximum" in driver.text
        await driver.press("-", "-")
        await worked(driver)
        assert "-0.50 of its maximum" in driver.text
        await driver.press("w")
        await worked(driver)
        assert "stored as intervention-" in driver.text
        assert len(list((path / "runs").glob("intervention-*"))) == 1
        await driver.press("s")
        assert isinstance(driver.app.screen, SteeringScreen)
        await worked(driver)
        assert "strength 0 of the maximum" in driver.text and "perplexity" in driver.text
        await driver.press("escape", "escape", "9")
        await driver.until("steer by feature")
        assert "done" in driver.text and "0 running" in driver.text
        await driver.press("x")
        await driver.until("no job runs under the cursor")


async def test_an_edit_acts_only_where_a_condition_holds(drive: Open, path: Path) -> None:
    async with drive("small", path) as driver:
        await open_feature(driver)
        await driver.press("a")
        await worked(driver)
        assert "▸" not in driver.text
        await driver.press("o")
        await driver.until("Change it only where")
        await driver.type("sevens")
        await driver.press("enter")
        await driver.until("is no condition: a condition is a feature")
        await driver.type("7>-1")
        await driver.press("enter")
        await worked(driver)
        tokens = driver.app.screen.query_one(TokenPairs)._tokens
        assert [token.startswith("▸") for token in tokens] == [False] + [True] * (len(tokens) - 1)
        assert "ablated where 7>-1" in driver.text
        assert f":7>-1 at {len(tokens) - 1} of {len(tokens)} tokens" in driver.text
        assert "in the run at 100 %; " in driver.text and "recall 1.00" in driver.text
        assert isinstance(driver.app.screen, LabScreen)
        assert driver.app.screen.address().show == "when 7>-1"
        await driver.press("o")
        await driver.type("99>1")
        await driver.press("enter")
        await worked(driver)
        assert "a feature that does not exist" in driver.text and "not run" in driver.text
        await driver.press("o")
        await driver.type("7>1e9")
        await driver.press("enter")
        await worked(driver)
        assert "at 0 of" in driver.text and "none moved" in driver.text
        await driver.press("s")
        assert isinstance(driver.app.screen, SteeringScreen)
        await worked(driver)
        assert "changed at 0 of" in driver.text and "1000000000" in driver.text
        assert driver.app.screen.address().show == "when 7>1000000000"
        await driver.press("o", "backspace", "enter")
        await worked(driver)
        assert "changed at" not in driver.text and driver.app.screen.address().show is None
        driver.app.screen.take(driver.app.screen.address())
        for told, expected in (("2 1 when a:7>2", "2 1 when a:7>2"), ("2 0 when x", "2 0")):
            driver.app.screen.when = None
            driver.app.screen.take(Told(show=told))
            assert driver.app.screen.address().show == expected


async def test_gains_of_a_file_are_applied_or_refused(drive: Open, path: Path) -> None:
    with open_catalog(path) as store:
        run = store.runs[0].info
    sae = next(s for s in run.saes if s.sae_id == "one")
    made = {
        "kind": KIND, "model": run.model, "model_sha256": run.model_sha256, "sae_id": "one",
        "sae_sha256": sae.weights_sha256, "hook_name": sae.hook_name,
        "target_hook": sae.hook_name, "head": "null",
    }  # fmt: skip
    for name, about in (("good", made), ("bad", {**made, "model_sha256": "0"})):
        gains = Gains((3, 7, 8), (0.9, -0.9, 0.9), about)
        (path.parent / f"{name}.safetensors").write_bytes(gains_bytes(gains))
    async with drive("large", path) as driver:
        await open_feature(driver)
        await driver.press("a")
        await worked(driver)
        for name, said in (("good", "gains of good.safetensors"), ("bad", "another model")):
            await driver.press("g")
            field = driver.app.screen.query_one(Input)
            field.value = str(path.parent / f"{name}.safetensors")
            await driver.press("enter")
            await worked(driver)
            assert said in driver.text
            assert ("turned  3 features" in driver.text) == (name == "good")
        await driver.press("g", "escape", "a")
        await worked(driver)
        assert "ablated" in driver.text and "gains of" not in driver.text


async def test_a_text_is_typed_read_and_compared(drive: Open, path: Path) -> None:
    async with drive("large", path) as driver:
        await driver.press("p")
        await driver.until("F5 or ctrl+j runs it")
        await driver.press(*"the", "space", *"cat", "f5")
        await worked(driver)
        assert isinstance(driver.app.screen, PromptScreen)
        assert "mean energy" in driver.text and "energy after each layer" in driver.text
        before = driver.text
        await driver.press("down")
        assert driver.text != before, "the features of another token"
        await driver.press("o", "backspace", *"r", "f5")
        await worked(driver)
        await driver.press("enter", "enter")
        assert isinstance(driver.app.screen, FeatureScreen)
        await driver.press("a")
        await worked(driver)
        await driver.press("s", "x")
        await worked(driver)
        states = [job.state for job in driver.app.workspace.jobs.listed]
        assert states[-1] in ("cancelled", "done")  # a small model may have been faster
        await driver.press("7", "t", "p")
        assert isinstance(driver.app.screen, PromptScreen)
        await worked(driver)
        assert "mean energy" in driver.text
        await driver.press("t")
        await driver.until("Text to read")


async def test_what_is_missing_is_computed_and_taken_in(drive: Open, path: Path) -> None:
    async with drive("small", path) as driver:
        assert "9 Jobs" in driver.text
        await driver.press("9")
        assert "no jobs yet" in driver.text
        await driver.press("2", "r")
        await worked(driver)
        await driver.until("Recompute for")
        assert "about" in driver.text and "keep dense activations" in driver.text
        await driver.press("down", "enter")
        await worked(driver, lambda job: "keep dense" in job.title)
        await driver.until("shards were missing")
        state = driver.app.workspace.store.runs[0]
        assert state.info.additions == ["activations blocks.1.hook_mlp_out"]


def test_differences_carry_their_sign() -> None:
    assert [signed(x) for x in (None, 0.0, 0.004, 1.234, -0.5)] == ["·", "0", "0", "+1.23", "-0.50"]


@pytest.mark.parametrize("size", ["small", "large"])
async def test_a_prediction_is_attributed_to_features(drive: Open, path: Path, size: str) -> None:
    async with drive(size, path) as driver:
        await driver.press("p")
        await driver.press(*"the", "space", *"cat", "f5")
        await worked(driver)
        await driver.press("down", "A")
        assert isinstance(driver.app.screen, AttributionScreen)
        await worked(driver)
        assert "less the mean logit" in driver.text and "agree by" in driver.text
        rows = driver.app.screen.frame("behind")
        sizes = rows["gradient"].abs().to_list()
        assert sizes == sorted(sizes, reverse=True) and len(sizes) > 1
        shown = rows.row(0, named=True)
        line = next(line for line in driver.lines if line.split()[:1] == [str(shown["feature_id"])])
        assert line.split()[1:3] == [number(shown["gradient"]), number(shown["ablation"])]
        await driver.press("enter")
        assert isinstance(driver.app.screen, FeatureScreen)
        assert f"{shown['feature_id']}" in driver.text
        await driver.press("escape", "t")
        await driver.type("th")
        await driver.press("enter")
        await worked(driver)
        assert "logit of 'th'" in driver.text
        await driver.press("t", "backspace", "backspace")
        await driver.type("the")
        await driver.press("enter")
        await worked(driver)
        assert "is not one token of this model" in driver.lines[-2]


@pytest.mark.parametrize("keys", [("2", "enter", "down"), ("7", "enter"), ("7", "t")])
async def test_a_token_of_the_corpus_is_attributed_in_its_context(
    drive: Open, path: Path, keys: tuple[str, ...]
) -> None:
    async with drive("large", path) as driver:
        await driver.press(*keys, "right", "A")
        assert isinstance(driver.app.screen, AttributionScreen), keys
        await worked(driver)
        place = driver.app.screen._place
        assert place.context_id is not None and "active features" in driver.lines[-2]
        with open_catalog(path) as store:
            tokens = "SELECT token FROM tokens WHERE context_id = ? AND pos = ?"
            asked = store.cursor().execute(tokens, [place.context_id, place.pos]).fetchone()
        assert asked is not None and f"▸{visible_token(asked[0])}◂" in driver.text
