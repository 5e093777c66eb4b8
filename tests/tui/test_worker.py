"""The worker as the screens see it: started, restarted, cancelled, over a command of one's own."""

import sys
import threading
from typing import Any

import pytest

from energylens.protocol import ProgressReport
from energylens.tui.worker import Calls, WorkerClient, WorkerError

ECHO = """
import json, os, sys
print("Welcome to the box", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["method"] == "die":
        os._exit(3)
    if asked["method"] == "wait":
        waiting = asked["id"]
        continue
    report = {"phase": "p", "done": 1, "total": 2, "unit": "u"}
    print(json.dumps({"id": asked["id"], "progress": report}), flush=True)
    if asked["method"] == "cancel":
        stopped = {"kind": "Cancelled", "message": "stopped"}
        print(json.dumps({"id": waiting, "error": stopped}), flush=True)
    print(json.dumps({"id": asked["id"], "result": asked["params"]}), flush=True)
"""


class Listener:
    """Hears of one request."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: WorkerError | None = None
        self.reports: list[ProgressReport] = []
        self._done = threading.Event()

    @property
    def calls(self) -> Calls:
        return Calls(self._answered, self._failed, self.reports.append)

    def _answered(self, result: Any) -> None:
        self.result = result
        self._done.set()

    def _failed(self, error: WorkerError) -> None:
        self.error = error
        self._done.set()

    def wait(self) -> "Listener":
        assert self._done.wait(timeout=30)
        return self


@pytest.fixture
def client() -> Any:
    made = WorkerClient([sys.executable, "-c", ECHO])
    yield made
    made.close()


def test_answers_and_progress_come_back(client: WorkerClient) -> None:
    heard = Listener()
    client.ask("echo", {"a": 1}, heard.calls)
    assert heard.wait().result == {"a": 1}
    assert heard.reports == [ProgressReport("p", 1, 2, "u")]


def test_a_worker_that_dies_is_told_of_and_started_again(client: WorkerClient) -> None:
    waits, dies = Listener(), Listener()
    client.ask("wait", {}, waits.calls)
    client.ask("die", {}, dies.calls)
    for heard in (waits, dies):
        error = heard.wait().error
        assert error is not None and "status 3" in str(error) and "starts it again" in str(error)
    again = Listener()
    client.ask("echo", {"b": 2}, again.calls)
    assert again.wait().result == {"b": 2}


def test_a_request_is_cancelled(client: WorkerClient) -> None:
    heard = Listener()
    number = client.ask("wait", {}, heard.calls)
    client.cancel(number)
    error = heard.wait().error
    assert error is not None and error.kind == "Cancelled"


def test_a_command_that_is_not_there_says_so() -> None:
    client = WorkerClient(["no-such-program", "worker"])
    with pytest.raises(WorkerError, match="cannot be started with 'no-such-program worker'"):
        client.ask("echo", {}, Listener().calls)
    client.close()
