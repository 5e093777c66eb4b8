"""The worker as the screens see it: started, restarted, cancelled, over a command of one's own."""

import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from energylens.protocol import ProgressReport
from energylens.tui import worker
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
    def say(**what):
        print(json.dumps({"jsonrpc": "2.0", **what}), flush=True)
    say(method="progress", params={"id": asked["id"], "report": report})
    if asked["method"] == "cancel":
        stopped = {"code": -32800, "message": "stopped", "data": {"kind": "Cancelled"}}
        say(id=waiting, error=stopped)
    say(id=asked["id"], result=asked["params"])
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


SAYS = """
import json, os, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    out = sys.stdout.buffer
    for said in asked["params"]["lines"]:
        out.write(said.replace("ID", str(asked["id"])).encode("latin-1") + b"\\n")
    out.flush()
    if asked["method"] == "close":
        os.close(1)
        time.sleep(600)
    if asked["method"] == "answer":
        sound = {"jsonrpc": "2.0", "id": asked["id"], "result": "sound"}
        out.write(json.dumps(sound).encode() + b"\\n")
        out.flush()
"""
"""Writes the lines it is given, ID replaced by the request's, and answers."""


@pytest.fixture(scope="module")
def parrot() -> Iterator[WorkerClient]:
    made = WorkerClient([sys.executable, "-c", SAYS])
    yield made
    made.close()


def _told(client: WorkerClient, *lines: str, method: str = "answer") -> Listener:
    heard = Listener()
    client.ask(method, {"lines": lines}, heard.calls)
    return heard.wait()


def test_a_report_that_cannot_be_read_says_so_and_the_answer_arrives(parrot: WorkerClient) -> None:
    bad = (
        '{"jsonrpc": "2.0", "method": "progress", "params": {"id": ID, "report": {"phase": 5, '
        '"done": 1, "total": 2, "unit": "u"}}}'
    )
    heard = _told(parrot, bad)
    assert heard.result == "sound"
    (report,) = heard.reports
    assert report.message is not None and "phase must be a text, not 5" in report.message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{J, "id": ID}', "neither result nor error"),
        ('{J, "id": ID, "result": 1', "is no answer"),
        ('{J, "id": ID, "error": 5}', "gives no reason"),
        (
            '{J, "id": ID, "error": {"code": [], "message": {}, "data": 5}}',
            "gives no reason",
        ),
        (
            '{J, "id": ID, "error": {"code": -32000, "message": "try --x"}}',
            "try --x",
        ),
        ('{J, "id": ID, "other": 1}', "neither result nor error"),
        ('{J, "id": 99999999, "result": 1}', "99999999, which is no request"),
        ('{J, "id": true, "result": 1}', "true, which is no request"),
        ('{J, "id": [], "result": 1}', "which is no request"),
        (
            '{J, "id": null, "error": {"code": 1, "message": "no JSON"}}',
            "understood: no JSON",
        ),
        ('{J, "id": ' + "9" * 5000 + "}", "is no answer"),
        ('{J, "id": ID, "result": ' + "[" * 100_000, "is no answer"),
        ('{J, "id": "\xff"}', "is no answer"),
        ('{"id": ID, "result": 1}', "does not answer in JSON-RPC 2.0"),
        ('{"jsonrpc": "1.0", "id": ID, "result": 1}', "does not answer in JSON-RPC 2.0"),
        ('{"id": ID, "progress": {"phase": "x"}}', "same version of Energy-Lens runs there"),
        ('{J, "method": "progress", "params": [ID]}', "null, which is no request"),
    ],
)
def test_a_line_that_is_no_answer_ends_in_an_error(
    parrot: WorkerClient, line: str, said: str
) -> None:
    heard = _told(parrot, line.replace("J,", '"jsonrpc": "2.0",'), method="silent")
    assert heard.error is not None and said in str(heard.error)
    assert _told(parrot).result == "sound"


@pytest.mark.parametrize(
    "line",
    [
        "", "Last login: today", "[1, 2]", "5", "null", "\x00\xff", '{"level": "info"}',
        '{"jsonrpc": "2.0", "method": "window/logMessage", "params": {"id": ID}}',
    ],
)  # fmt: skip
def test_noise_is_passed_over(parrot: WorkerClient, line: str) -> None:
    assert _told(parrot, line).result == "sound"


def test_an_endless_line_is_let_go_by(
    parrot: WorkerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "MOST_BYTES", 1 << 16)
    line = '{"jsonrpc": "2.0", "id": ID, "result": "' + "x" * (1 << 20) + '"}'
    heard = _told(parrot, line, method="silent")
    assert heard.error is not None and "more than 65.5 kB" in str(heard.error)
    assert _told(parrot).result == "sound"


def test_a_worker_that_closes_its_output_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_GRACE", 0.1)
    client = WorkerClient([sys.executable, "-c", SAYS])
    heard = _told(client, method="close")
    assert heard.error is not None and "stopped" in str(heard.error)
    assert _told(client).result == "sound"
    client.close()


def test_a_worker_that_takes_in_nothing_keeps_nobody_waiting() -> None:
    client = WorkerClient([sys.executable, "-c", "import time; time.sleep(600)"])
    heard = Listener()
    for _ in range(4):
        client.ask("echo", {"text": "x" * (1 << 20)}, heard.calls)
    client.close()


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
_report = st.fixed_dictionaries(
    {"phase": _json, "done": _json, "total": _json, "unit": _json}, optional={"message": _json}
)
_error = st.fixed_dictionaries({}, optional={"code": _json, "message": _json, "data": _json})
_message = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | _json,
        "id": _json,
        "method": st.just("progress") | _json,
        "params": _json
        | st.fixed_dictionaries({"id": st.just("ID") | _json, "report": _json | _report}),
        "error": _json | _error,
        "result": _json,
    },
)
_OWN_ID = json.dumps("ID")


@given(
    lines=st.lists(
        st.text(st.characters(max_codepoint=255, exclude_characters="\n"))
        | _message.map(lambda m: json.dumps(m).replace(_OWN_ID, "ID"))
        | _message.map(lambda m: json.dumps({**m, "id": "ID"}).replace(_OWN_ID, "ID")),
        max_size=3,
    )
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_it_says_every_request_comes_to_an_end(
    parrot: WorkerClient, lines: list[str]
) -> None:
    heard = _told(parrot, *lines)
    assert heard.error is not None or heard.result is not None or '"result": null' in "".join(lines)
    assert all(isinstance(report.phase, str) for report in heard.reports)
    # A line for nobody that comes late ends the next request, so each line may spoil one answer.
    assert any(_told(parrot).result == "sound" for _ in range(len(lines) + 1))
