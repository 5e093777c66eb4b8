"""The worker starts while one thinks of what to ask it, and says how far it is."""

import sys
from pathlib import Path

from energylens.tui.app import WorkerPlace
from energylens.tui.screens.features import FeaturesScreen
from energylens.tui.screens.prompt import PromptScreen
from tests.tui.conftest import Open

SLOW = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    def send(**what):
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **what}), flush=True)
    def tell(report):
        told = {"id": asked["id"], "report": report}
        print(json.dumps({"jsonrpc": "2.0", "method": "progress", "params": told}), flush=True)
    if asked["method"] == "open":
        begun = asked["id"]
        report = {"phase": "loading torch", "done": 0, "total": 0, "unit": "", "seconds_left": 9.6}
        tell(report)
    elif asked["method"] == "cancel" and asked["params"]["id"] == begun:
        sys.exit("the start was stopped")
    else:
        asked["id"], own = begun, asked["id"]
        send(result={})
        asked["id"] = own
        tell({"phase": "running", "done": 1, "total": 4, "unit": "texts"})
"""
STARTING = WorkerPlace((sys.executable, "-c", SLOW))


async def test_the_worker_starts_with_the_view_and_tells_its_phase(
    drive: Open, rich_path: Path
) -> None:
    async with drive("large", rich_path, worker=STARTING) as d:
        await d.press("p")
        await d.until(" s to go")
        assert "loading torch, " in d.text
        await d.type("cats")
        assert "cats" in d.text, "keys are not held up"
        await d.press("f5")
        assert isinstance(d.app.screen, PromptScreen)
        await d.until("running 1 of 4 texts")
        jobs = d.app.workspace.jobs.listed
        assert [(job.title, job.state) for job in jobs] == [
            ("start the worker", "done"),
            ("prompt", "running"),
        ]


async def test_what_waits_for_the_start_says_so(drive: Open, rich_path: Path) -> None:
    async with drive("large", rich_path, worker=STARTING) as d:
        await d.press("p")
        await d.until("loading torch")
        await d.press("escape", "escape")
        assert not isinstance(d.app.screen, PromptScreen)
        await d.press("2")
        assert isinstance(d.app.screen, FeaturesScreen)
        await d.press("9")
        await d.until("start the worker")
        await d.until("loading torch")


async def test_a_worker_of_an_older_version_answers_as_before(drive: Open, rich_path: Path) -> None:
    refuses = SLOW.replace(
        'begun = asked["id"]',
        'send(error={"code": -32601, "message": "there is no method open"}); continue',
    )
    place = WorkerPlace((sys.executable, "-c", refuses))
    async with drive("large", rich_path, worker=place) as d:
        await d.press("p")
        await d.until("t types a text")
        await d.pilot.pause(0.7)
        assert "there is no method" not in d.text
