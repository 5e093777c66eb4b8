"""The worker as the screens see it: a process, here or over ssh, that answers lines with lines.

It is started with the first request and started again after it died. Callbacks come from the thread
that reads its answers.
"""

import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from energylens.errors import EnergyLensError
from energylens.protocol import ProgressReport
from energylens.wire import decode, encode


class WorkerError(EnergyLensError):
    """The worker refused a request, or is gone."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Calls:
    """Who hears of a request."""

    answer: Callable[[Any], None]
    """The parsed result."""
    failed: Callable[[WorkerError], None]
    progress: Callable[[ProgressReport], None]


class WorkerClient:
    """One worker process at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: dict[int, Calls] = {}
        self._last = 0
        self._lock = threading.Lock()
        self._is_closed = False

    def ask(self, method: str, params: dict[str, Any], calls: Calls) -> int:
        """Send a request; its number.

        Raises:
            WorkerError: the worker cannot be started.
        """
        with self._lock:
            self._last += 1
            number = self._last
            self._waiting[number] = calls
            try:
                self._send({"id": number, "method": method, "params": params})
            except OSError as error:
                del self._waiting[number]
                raise WorkerError(
                    "Gone",
                    f"the worker cannot be started with '{' '.join(self._command)}': {error}",
                ) from error
        return number

    def cancel(self, number: int) -> None:
        """Ask the worker to stop a request; it answers that it was cancelled."""
        with self._lock:
            if number in self._waiting and self._process is not None:
                self._last += 1
                stop = {"id": self._last, "method": "cancel", "params": {"id": number}}
                try:
                    self._send(stop)
                except OSError:
                    return  # it died meanwhile, and whoever waits hears of that

    def close(self) -> None:
        """Stop the worker, whatever it does."""
        with self._lock:
            self._is_closed, process = True, self._process
        if process is not None:
            process.kill()
            process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # ctrl+c is for the screen, not for the worker
            )
            threading.Thread(target=self._read, args=(process,), daemon=True).start()
        assert process.stdin is not None, "asked for"
        process.stdin.write(encode(message).encode() + b"\n")
        process.stdin.flush()

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None, "asked for"
        for line in process.stdout:
            self._hear(line)
        status = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue  # what was still to be written has no reader
        with self._lock:
            lost: dict[int, Calls] = {}
            if self._process is process:
                self._process = None
                lost, self._waiting = self._waiting, {}
        gone = WorkerError(
            "Gone", f"the worker stopped (status {status}); the next request starts it again"
        )
        for calls in lost.values():
            if not self._is_closed:
                calls.failed(gone)

    def _hear(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            number = message.get("id")
        except (ValueError, AttributeError):
            return  # a greeting of a login shell, say
        with self._lock:
            calls = self._waiting.get(number)
            if calls is not None and "progress" not in message:
                del self._waiting[number]
        if calls is None or self._is_closed:
            return
        if "progress" in message:
            calls.progress(decode(ProgressReport, message["progress"]))
        elif "error" in message:
            error = message["error"]
            calls.failed(WorkerError(str(error.get("kind")), str(error.get("message"))))
        else:
            calls.answer(message.get("result"))
