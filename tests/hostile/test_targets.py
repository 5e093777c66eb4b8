"""The short form of the fuzzing: the same changed seeds every time, to every target."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.mutate import mutated
from tests.hostile.targets import Target, targets
from tests.hostile.watch import watched

CASES = int(os.environ.get("ENERGYLENS_HOSTILE_CASES", "2000"))
"""Of the cheapest targets; of dearer ones as many as take as long."""
NAMES = (
    "run.json", "manifest.json", "sums.json", "store.json", "worker's answers",
    "worker's requests", "wire", "filters", "sql", "named queries", "texts as JSONL",
    "texts as CSV", "texts as Parquet", "plain texts", "explanations as JSONL",
    "explanations as CSV", "explanations as Parquet", "notes", "stored explanations", "settings",
    "cfg.json", "header of weights", "text on a terminal",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


@pytest.fixture(scope="module")
def made(rich_path: Path, folder: Path) -> Iterator[dict[str, Target]]:
    yield targets(rich_path, folder)


def test_every_target_is_fed(made: dict[str, Target]) -> None:
    assert sorted(made) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_changed_bytes_get_a_sentence_or_an_answer(
    made: dict[str, Target], folder: Path, name: str
) -> None:
    target, by = made[name], random.Random(name)
    with watched(folder):
        for seed in target.seeds:
            target.feed(seed)
        for _ in range(max(10, CASES // target.cost)):
            content = mutated(target.seeds, by)
            try:
                target.feed(content)
            except BaseException:
                print(f"{name} was fed {content!r}")  # noqa: T201 - shown with the failure
                raise
