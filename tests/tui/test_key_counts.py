"""How many keys the tasks take that people come for: none may take more, and docs/tui.md tells how
many. The letters of a word are typed one by one; each counts as those of the word it stands for."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from textual.screen import Screen

from energylens.ingest.plan import IngestConfig
from energylens.queries.catalog import open_catalog
from energylens.tui.screens.compare_saes import CompareSaesScreen
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.lab import LabScreen
from energylens.tui.screens.landscape import LandscapeScreen
from energylens.tui.screens.prompt import PromptScreen
from energylens.tui.screens.routing import RoutingScreen
from energylens.tui.screens.steering import SteeringScreen
from energylens.tui.screens.text import TextScreen
from tests.conftest import make_store
from tests.tui.conftest import Driver, Open
from tests.tui.test_lab import worked

DOCUMENT = Path(__file__).parents[2] / "docs/tui.md"
STATEMENT = "FROM efas JOIN features USING (run_id, sae_id, feature_id) LIMIT 9"


@dataclass(frozen=True)
class Word:
    """What is typed here, and what the count takes it for."""

    typed: str
    counted: str = ""

    @property
    def n(self) -> int:
        return len(self.counted or self.typed)


Step = str | Word


@dataclass(frozen=True)
class Task:
    name: str
    steps: tuple[Step, ...]
    screen: type[Screen[None]] | None
    """Where it ends; None where it ends where it began."""
    seen: tuple[str, ...] = ()
    """What must be read on the screen then, as patterns."""
    starts: tuple[Step, ...] = ()
    """Keys before those that count: a person is there by another task."""

    @property
    def n(self) -> int:
        return sum(step.n if isinstance(step, Word) else 1 for step in self.steps)


FEATURE = ("2", "enter")
TASKS = (
    Task(
        "best specialist of a category, and its contexts",
        ("3", "down", "enter", "enter"),
        FeatureScreen,
        (r"category +b ", r"1  \w? *text \d+"),
    ),
    Task(
        "features on a given token of a text",
        ("7", "t", "right", "right"),
        TextScreen,
        (r"rks · energy", r"feature +label"),
    ),
    Task(
        "features for `import`",
        ("colon", Word("cat", "import"), "enter"),
        None,
        (r"\d+ of 40 · cat · sort match",),
    ),
    Task(
        "EFAS at q .05, the top opened",
        ("4", "slash", Word("q<.1", "q<.05"), "enter", "enter"),
        FeatureScreen,
        (r"Feature 13 ",),
    ),
    Task(
        "three hops of co-activation",
        ("5", "enter", "enter", "enter"),
        None,
        (r"pairs > feature 7 > feature 8 > feature 44 ",),
        starts=("2", "c", Word("one"), "enter"),
    ),
    Task(
        "anchors that take digits, and their paths",
        ("6", "slash", Word("digits"), "enter", "t"),
        RoutingScreen,
        (r"\[paths\]", r" L0 +L1 +takes"),
    ),
    Task(
        "where a text settles",
        ("7", "enter"),
        LandscapeScreen,
        (r"settles at layer \d",),
    ),
    Task(
        "SQL that joins, and the feature of a row",
        ("f5", "f6", "enter"),
        FeatureScreen,
        (r"Feature \d+ ",),
        starts=("8", "ctrl+l", Word(STATEMENT)),
    ),
    Task(
        "star a feature, note it, list what is starred",
        ("asterisk", "n", Word("nice"), "enter", "colon", Word("starred"), "enter"),
        None,
        (r"1 of 40", r" ★ "),
        starts=FEATURE,
    ),
    Task(
        "a table as a file",
        ("e", "enter", "enter"),
        None,
        (r"40 rows written",),
        starts=("2",),
    ),
    Task(
        "the screen as a picture",
        ("e", Word("svg"), "enter", "enter"),
        None,
        (r"\.svg",),
        starts=("2",),
    ),
    Task(
        "two SAEs side by side",
        ("equals_sign", "down", "equals_sign"),
        CompareSaesScreen,
        (r"mlp", r"one|two"),
    ),
    Task(
        "another run",
        ("C", Word("second"), "enter"),
        None,
        (r"second / ",),
        starts=("2",),
    ),
    Task(
        "the feature a colleague named",
        ("colon", Word("12"), "enter"),
        FeatureScreen,
        (r"Feature 12 ",),
    ),
    Task(
        "an own prompt",
        ("p", Word("the cat sat"), "f5"),
        PromptScreen,
        (r"cat",),
    ),
    Task(
        "a feature ablated, with three controls",
        ("a",),
        LabScreen,
        ("edited", "flipped", "noise", "like"),
        starts=FEATURE,
    ),
    Task(
        "a feature steered by",
        ("a", "s"),
        SteeringScreen,
        (r"strength 0 of the maximum",),
        starts=FEATURE,
    ),
)
WORKED = (PromptScreen, LabScreen, SteeringScreen)
"""What is shown there the worker has computed."""


@pytest.fixture(scope="module")
def path(rich_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two runs, which tasks may write to."""
    copy = tmp_path_factory.mktemp("counted") / "rich.lens"
    shutil.copytree(rich_path, copy)
    with open_catalog(copy) as opened:
        info = opened.infos[0]
    texts = copy.parent / "few.jsonl"
    texts.write_text('{"text": "the cat sat on a mat", "category": "a"}\n' * 3)
    make_store(copy, IngestConfig(info.model, str(texts), run_id="second"), with_index=False)
    return copy


def typed(steps: tuple[Step, ...]) -> list[str]:
    return [key for step in steps for key in (step.typed if isinstance(step, Word) else [step])]


STORED = [task for task in TASKS if task.screen not in WORKED]
COMPUTED = [task for task in TASKS if task.screen in WORKED]


@pytest.mark.parametrize(
    "tasks", [*([task] for task in STORED), COMPUTED], ids=lambda tasks: tasks[0].name
)
async def test_a_task_is_done_by_so_many_keys(
    drive: Open, path: Path, monkeypatch: pytest.MonkeyPatch, tasks: list[Task]
) -> None:
    monkeypatch.chdir(path.parent)
    async with drive("120x36", path) as d:
        for task in tasks:
            await d.press(*["escape"] * 4, "1", *typed(task.starts))
            await d.press(*typed(task.steps))
            if task.screen in WORKED:
                await worked(d)
            if task.screen is not None:
                assert isinstance(d.app.screen, task.screen)
            for pattern in task.seen:
                await read(d, pattern)


async def read(d: Driver, pattern: str) -> None:
    """Wait until a pattern is on the screen: what was written is told by a toast."""
    for _ in range(100):
        if re.search(pattern, d.text):
            return
        await d.pilot.pause(0.05)
    raise AssertionError(f"'{pattern}' is not on the screen:\n{d.text}")


def told() -> dict[str, tuple[int | None, int]]:
    """Before and now, of each task in the document's table."""
    row = re.compile(r"^\| ([^|]+) \| [^|]+ \| (\d+|no way) \| (\d+) \|$", re.M)
    found = row.findall(DOCUMENT.read_text("utf-8"))
    return {name: (int(was) if was.isdigit() else None, int(now)) for name, was, now in found}


def test_the_document_tells_what_the_tasks_take_and_none_has_grown() -> None:
    assert {name: now for name, (_, now) in told().items()} == {t.name: t.n for t in TASKS}
    assert all(was is None or now <= was for was, now in told().values())
