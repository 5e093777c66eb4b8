"""The worker over pipes: answers, progress, cancellation, and whatever else comes down a pipe."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from energylens.db.store import open_store
from energylens.db.verify import verify_store
from energylens.ingest.on_request.phases import Phases
from energylens.ingest.on_request.worker import MOST_WAITING, Worker
from energylens.protocol import PromptResult
from energylens.rpc import (
    BAD_PARAMS,
    CANCELLED,
    MOST_BYTES,
    NO_JSON,
    NO_METHOD,
    NO_REQUEST,
    VERSION,
)
from energylens.wire import decode


class Client:
    """A worker in a thread, and both ends of its pipes."""

    def __init__(self) -> None:
        read, write = os.pipe()
        back, answer = os.pipe()
        self.requests = os.fdopen(write, "wb", buffering=0)
        self.answers = os.fdopen(back, "rb")
        self._ends = (os.fdopen(read, "rb"), os.fdopen(answer, "wb"))
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        Worker(*self._ends).serve()
        with suppress(BrokenPipeError):
            self._ends[1].close()

    def send(self, line: bytes | dict[str, Any]) -> None:
        if isinstance(line, dict):
            line = json.dumps({"jsonrpc": "2.0", **line}).encode() + b"\n"
        self.requests.write(line)

    def receive(self) -> dict[str, Any]:
        """The next message that is no progress."""
        while True:
            found = json.loads(self.answers.readline())
            if found.get("method") != "progress":
                return found

    def phases(self) -> list[tuple[str, float | None]]:
        """Phases with the seconds to go, until the next message that is no progress."""
        told = []
        while (found := json.loads(self.answers.readline())).get("method") == "progress":
            report = found["params"]["report"]
            told.append((report["phase"], report.get("seconds_left")))
        assert "result" in found, found
        return told

    def close(self) -> None:
        self.requests.close()
        self.thread.join(timeout=60)
        assert not self.thread.is_alive()
        self.answers.close()
        self._ends[0].close()


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.close()


@pytest.fixture(scope="module")
def path(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("worker") / "x.lens"
    shutil.copytree(store_path, copy)
    return copy


@pytest.fixture(scope="module")
def params(path: Path) -> dict[str, Any]:
    with open_store(path) as store:
        return {"store": str(path), "run": store.runs[0].info.run_id}


def prompt(job: Any, params: dict[str, Any], text: str = "Fish.", **more: Any) -> dict[str, Any]:
    return {"id": job, "method": "prompt", "params": {**params, "request": {"text": text, **more}}}


def steer(job: Any, params: dict[str, Any]) -> dict[str, Any]:
    """A request that takes a while and tells how far it is."""
    request = {
        "prompt": "F", "edit": {"sae_id": "resid", "feature_ids": [3], "kind": "add"},
        "strengths": [i / 100 for i in range(400)], "n_tokens": 10,
    }  # fmt: skip
    return {"id": job, "method": "steer", "params": {**params, "request": request}}


def test_it_says_who_it_is_and_answers(client: Client, params: dict[str, Any]) -> None:
    client.send({"id": 1, "method": "hello"})
    hello = client.receive()["result"]
    assert hello["protocol"] == VERSION and "prompt" in hello["methods"]
    client.send({"id": "load", "method": "load", "params": params})
    assert client.receive()["result"]["seconds_per_pass"] > 0
    client.send(prompt(2, params))
    found = client.receive()
    assert found["id"] == 2
    assert [t.token for t in decode(PromptResult, found["result"]).reading.tokens][1] == "Fi"


def test_it_loads_ahead_in_phases_and_knows_the_next_time_how_long_they_take(
    params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    told = []
    for _ in range(2):
        client = Client()
        client.send({"id": 1, "method": "open", "params": params})
        told.append(client.phases())
        client.send(prompt(2, params))
        assert client.phases() == [], "what is loaded is not loaded again"
        client.close()
    first, second = told
    assert [name for name, _ in second] == [name for name, _ in first][-2:]
    assert second[0][0].startswith("reading the weights of")
    assert second[1][0].startswith("reading the SAEs of")
    assert all(left is None for _, left in first), "nobody has taken the time yet"
    left = [left for _, left in second]
    assert left[0] is not None and left[1] is not None and left[0] > left[1] > 0


@pytest.mark.parametrize("content", ["", "[]", '{"reading": "x"}', "\0", '{"a": 1e999}'])
def test_times_that_cannot_be_read_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file = tmp_path / "energylens" / "worker-starts.json"
    file.parent.mkdir()
    file.write_text(content)
    told: list[tuple[str, float | None]] = []
    phases = Phases(["reading"], lambda name, left: told.append((name, left)))
    phases.begin("reading")
    phases.keep()
    assert told == [("reading", None)]
    assert json.loads(file.read_text())["reading"] >= 0


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (b"nonsense\n", NO_JSON, "no JSON object"),
        (b"[1, 2]\n", NO_REQUEST, "one JSON object; of a batch, send each"),
        (b"\xff\xfe\n", NO_JSON, "no JSON object"),
        (b"[" * 100_000 + b"\n", NO_JSON, "no JSON object"),
        (b'{J, "id": "\\ud800", "method": "hello"}\n', NO_JSON, "surrogates not allowed"),
        (b'{"id": 1, "method": "hello"}\n', NO_REQUEST, 'holds "jsonrpc": "2.0"'),
        (b'{"jsonrpc": 2.0, "id": 1, "method": "hello"}\n', NO_REQUEST, 'holds "jsonrpc": "2.0"'),
        (b'{"method": "hello"}\n', NO_REQUEST, 'holds "jsonrpc": "2.0"'),
        (b'{J, "id": true, "method": "hello"}\n', NO_REQUEST, "a text or a whole number"),
        (b'{J, "id": null, "method": "hello"}\n', NO_REQUEST, "a text or a whole number"),
        (b'{J, "id": 1, "method": 2}\n', NO_REQUEST, "needs a method"),
        (b'{J, "id": 1, "method": "fly"}\n', NO_METHOD, "no method 'fly'"),
        (b'{J, "id": 1, "method": "prompt"}\n', BAD_PARAMS, "params need store"),
        (b'{J, "id": 1, "method": "prompt", "params": ["x"]}\n', BAD_PARAMS, "by their names"),
        (
            b'{J, "id": 1, "method": "prompt", "params": {"request": {"text": "x"}}}\n',
            BAD_PARAMS,
            "need store",
        ),
        (b"x" * (MOST_BYTES + 5) + b"\n", NO_REQUEST, "at most 1,048,576 bytes"),
    ],
)
def test_bad_requests_get_an_error_and_do_no_harm(
    client: Client, line: bytes, code: int, words: str
) -> None:
    line = line.replace(b"J,", b'"jsonrpc": "2.0",')
    threading.Thread(target=client.send, args=(line,)).start()
    error = client.receive()["error"]
    assert words in error["message"] and error["data"] == {"kind": "UsageError"}
    assert error["code"] == code
    client.send({"id": 9, "method": "hello"})
    assert client.receive()["id"] == 9


def test_what_has_no_id_gets_no_answer(client: Client, params: dict[str, Any]) -> None:
    client.send({"method": "hello"})
    client.send({"method": "fly"})
    client.send(steer("c", params))
    client.send({"method": "cancel", "params": {"id": "c"}})
    found = client.receive()
    assert found["id"] == "c" and found["error"]["code"] == CANCELLED
    client.send({"id": 9, "method": "hello"})
    assert client.receive()["id"] == 9


def test_a_line_as_long_as_may_be_is_read(client: Client, params: dict[str, Any]) -> None:
    asked = prompt(1, params, "x" * (MOST_BYTES - 400))
    threading.Thread(target=client.send, args=(asked,)).start()
    assert "tokens; this needs 1 to 15" in client.receive()["error"]["message"]


def test_errors_of_a_run_are_told_and_the_next_request_works(
    client: Client, params: dict[str, Any]
) -> None:
    client.send(prompt(1, {**params, "run": "none"}))
    assert client.receive()["error"]["data"]["kind"] == "UnknownNameError"
    client.send(prompt(2, params, ""))
    assert client.receive()["error"]["data"]["kind"] == "UsageError"
    client.send(prompt(3, params))
    assert "result" in client.receive()


def test_two_requests_at_once_are_answered_in_turn(client: Client, params: dict[str, Any]) -> None:
    client.send(prompt("a", params, keep=True))
    client.send(prompt("b", params, "Fist."))
    assert [client.receive()["id"] for _ in range(2)] == ["a", "b"]
    client.send(steer("c", params))
    client.send(steer("c", params))
    assert "still under way" in client.receive()["error"]["message"]
    client.send({"id": "d", "method": "cancel", "params": {"id": "c"}})
    assert {client.receive()["id"], client.receive()["id"]} == {"c", "d"}


def test_ten_quick_cancels_leave_nothing_behind(client: Client, params: dict[str, Any]) -> None:
    for number in range(10):
        client.send(steer(number, params))
        client.send({"id": f"stop {number}", "method": "cancel", "params": {"id": number}})
    found = [client.receive() for _ in range(20)]
    kinds = [answer["error"]["data"]["kind"] for answer in found if "error" in answer]
    assert kinds == ["Cancelled"] * 10
    client.send({"id": 1, "method": "cancel", "params": {"id": "nobody"}})
    assert client.receive()["result"] == {"cancelled": False}
    client.send(prompt(99, params))
    assert "result" in client.receive()


def test_too_many_requests_are_refused(client: Client, params: dict[str, Any]) -> None:
    client.send(steer("long", params))
    for number in range(MOST_WAITING + 2):
        client.send(prompt(number, params))
    assert "requests wait already" in client.receive()["error"]["message"]
    for number in ("long", *range(MOST_WAITING + 2)):
        client.send({"id": f"c{number}", "method": "cancel", "params": {"id": number}})


def test_shutdown_and_a_closed_reader_end_it(params: dict[str, Any]) -> None:
    one = Client()
    one.send({"id": 1, "method": "shutdown"})
    assert one.receive() == {"jsonrpc": "2.0", "id": 1, "result": {}}
    one.close()
    two = Client()
    two.answers.close()
    two.send(prompt(1, params))
    two.close()


def test_an_end_of_the_requests_stops_what_runs(params: dict[str, Any]) -> None:
    answers = io.BytesIO()
    line = json.dumps({"jsonrpc": "2.0", **steer(1, params)}).encode() + b"\n"
    Worker(io.BytesIO(line), answers).serve()
    last = json.loads(answers.getvalue().splitlines()[-1])
    assert last["error"]["data"]["kind"] == "Cancelled"


def test_kill_in_the_middle_leaves_a_sound_store(path: Path, params: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "energylens", "worker"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None and process.stdout is not None
    for number in range(20):
        asked = {"jsonrpc": "2.0", **prompt(number, params, f"{number} x", keep=True)}
        line = json.dumps(asked).encode() + b"\n"
        process.stdin.write(line)
    process.stdin.flush()
    while "result" not in json.loads(process.stdout.readline()):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    process.stdin.close()
    process.stdout.close()
    assert verify_store(path) == []
