"""A long-lived process that holds a model and its SAEs and answers requests, one at a time.

docs/worker.md describes the protocol. A thread reads requests, so that a cancellation is heard
while another request runs; all work happens in the thread that calls `serve`.
"""

import gc
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from importlib import import_module
from io import BufferedIOBase
from pathlib import Path
from queue import Full, Queue
from typing import TYPE_CHECKING, Any

import energylens
from energylens.db.provenance import RunInfo
from energylens.errors import EnergyLensError, UsageError
from energylens.ingest.on_request.phases import Phases
from energylens.ingest.progress import Progress
from energylens.methods import BY_NAME, CancelResult, HelloResult, Method, Nothing
from energylens.protocol import LoadResult, ProgressReport
from energylens.queries.names import find_run, find_sae, stored_runs
from energylens.rpc import (
    BAD_PARAMS,
    CANCELLED,
    INTERNAL,
    MARK,
    MOST_BYTES,
    NO_JSON,
    NO_METHOD,
    NO_REQUEST,
    REFUSED,
    VERSION,
    Id,
    error,
    progress,
    result,
)
from energylens.wire import decode, encode

if TYPE_CHECKING:
    from energylens.ingest.on_request.reopen import Reopened

MOST_WAITING = 64
"""Requests that may wait; more are refused."""
_REPORTS_A_SECOND = 4

_PIECES = {
    "torch": "loading torch",
    "transformers": "loading transformers",
    "transformer_lens.model_bridge": "loading transformer_lens",
    "sae_lens": "loading sae_lens",
    "energylens.ingest.on_request.methods": "loading energylens",
}
"""What a start imports, and how that is told: it takes seconds, before any model is read."""
_CHANGING = "loading libraries"


@dataclass
class _Job:
    """A request that was understood."""

    id: Id
    method: str
    params: dict[str, Any]
    is_cancelled: bool = False


class _CancelledError(Exception):
    """The request was cancelled while it ran."""


class _RequestError(UsageError):
    """What was sent is no request that can be worked on; `code` is the one of JSON-RPC."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _WorkerProgress(Progress):
    """Progress as messages; notices when its job has been cancelled."""

    def __init__(self, job: _Job, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(as_json=True)
        self._job, self._send = job, send
        self._sent = self._previewed = 0.0

    def step(self, phase: str, done: int, total: int, unit: str) -> None:
        self.check()
        now = time.monotonic()
        if now - self._sent >= 1 / _REPORTS_A_SECOND:
            self._sent = now
            self._report(ProgressReport(phase, done, total, unit))

    def say(self, message: str) -> None:
        self.check()
        self._report(ProgressReport("", 0, 0, "", message))

    def preview(self, text: str) -> None:
        self.check()
        now = time.monotonic()
        if now - self._previewed >= 1 / _REPORTS_A_SECOND:
            self._previewed = now
            self._report(ProgressReport("preview", 0, 0, "", text))

    def phase(self, name: str, seconds_left: float | None) -> None:
        """A phase begins that tells nothing until it ends."""
        self.check()
        self._report(ProgressReport(name, 0, 0, "", seconds_left=seconds_left))

    def _report(self, report: ProgressReport) -> None:
        told = {name: value for name, value in asdict(report).items() if value is not None}
        self._send(progress(self._job.id, told))

    def check(self) -> None:
        """Stop here if the job has been cancelled."""
        if self._job.is_cancelled:
            raise _CancelledError


class Worker:
    """Answers requests from one stream on another."""

    def __init__(self, requests: BufferedIOBase, answers: BufferedIOBase) -> None:
        self._requests, self._answers = requests, answers
        self._waiting: Queue[_Job | None] = Queue(MOST_WAITING)
        self._jobs: dict[Id, _Job] = {}
        self._lock = threading.Lock()
        self._held: tuple[tuple[str, str], Reopened] | None = None

    def serve(self) -> None:
        """Answer until the requests end, the answers are no longer read, or `shutdown` comes."""
        threading.Thread(target=self._read, daemon=True).start()
        while (job := self._waiting.get()) is not None:
            try:
                self._answer(job)
            except (BrokenPipeError, ValueError):  # nobody reads any more
                return
            finally:
                with self._lock:
                    self._jobs.pop(job.id, None)

    def _read(self) -> None:
        try:
            while line := self._requests.readline(MOST_BYTES + 1):
                if len(line) > MOST_BYTES and not line.endswith(b"\n"):
                    self._skip_line()
                    self._refuse(None, NO_REQUEST, f"a request has at most {MOST_BYTES:,} bytes")
                elif line.strip() and not self._take(line):
                    break
        except (BrokenPipeError, ValueError, OSError):
            pass
        with self._lock:
            for job in self._jobs.values():
                job.is_cancelled = True
        self._waiting.put(None)

    def _skip_line(self) -> None:
        while (rest := self._requests.readline(MOST_BYTES)) and not rest.endswith(b"\n"):
            pass

    def _take(self, line: bytes) -> bool:
        """Put a request in the queue, or do at once what cannot wait; False ends the reading."""
        try:
            raw = json.loads(line)
            json.dumps(raw, ensure_ascii=False).encode()  # JSON can hold text that UTF-8 cannot
        except (ValueError, RecursionError) as fault:
            self._refuse(None, NO_JSON, f"a line is no JSON object: {fault}")
            return True
        try:
            job = _understood(raw)
        except _RequestError as fault:
            self._refuse(_id_of(raw), fault.code, str(fault))
            return True
        if job.method == "shutdown":
            self._reply(job, Nothing())
            return False
        if job.method == "cancel":
            self._cancel(job)
        elif job.id is not None:
            self._queue(_Job(job.id, job.method, job.params))
        return True

    def _queue(self, job: _Job) -> None:
        with self._lock:
            if job.id in self._jobs:
                known = True
            else:
                known, self._jobs[job.id] = False, job
        if known:
            said = f"a request with the id {job.id!r} is still under way"
            self._refuse(job.id, NO_REQUEST, said)
            return
        try:
            self._waiting.put_nowait(job)
        except Full:
            with self._lock:
                del self._jobs[job.id]
            said = f"{MOST_WAITING} requests wait already; ask again later"
            self._refuse(job.id, NO_REQUEST, said)

    def _cancel(self, asked: "_Asked") -> None:
        other = _id_of(asked.params)
        with self._lock:
            job = None if other is None else self._jobs.get(other)
            if job is not None:
                job.is_cancelled = True
        self._reply(asked, CancelResult(job is not None))

    def _reply(self, asked: "_Asked", value: CancelResult | Nothing) -> None:
        if asked.id is not None:
            self._send(result(asked.id, asdict(value)))

    def _answer(self, job: _Job) -> None:
        reports = _WorkerProgress(job, self._send)
        try:
            reports.check()
            found = self._work(job, reports)
            reports.check()
        except _CancelledError:
            self._send(error(job.id, CANCELLED, "Cancelled", "the request was cancelled"))
        except _RequestError as fault:
            self._refuse(job.id, fault.code, str(fault))
        except EnergyLensError as fault:
            self._send(error(job.id, REFUSED, type(fault).__name__, str(fault)))
        except BrokenPipeError:
            raise
        except Exception as fault:
            traceback.print_exc(file=sys.stderr)
            what = f"the worker failed at this request ({type(fault).__name__}: {fault})"
            self._send(error(job.id, INTERNAL, "InternalError", what))
        else:
            self._send(result(job.id, asdict(found)))

    def _work(self, job: _Job, reports: _WorkerProgress) -> Any:
        method = BY_NAME.get(job.method)
        if method is None:
            raise _RequestError(NO_METHOD, f"there is no method '{job.method}'; hello lists them")
        if method.name == "hello":
            return HelloResult(VERSION, energylens.__version__, list(BY_NAME))
        if method.request is None:
            reopened = self._bench(job.params, reports)
            return Nothing() if method.name == "open" else _cost(reopened)
        store, run = self._place(job.params)
        asked = _in_full(run, _decoded(method, job.params))
        if method.writes:
            return self._change(method, Path(store), run, asked, reports)
        reopened = self._bench(job.params, reports)
        from energylens.ingest.on_request.methods import ANSWERS

        return ANSWERS[method.name](reopened, asked, reports)

    def _change(
        self, method: Method, store: Path, run: RunInfo, asked: Any, reports: _WorkerProgress
    ) -> Any:
        """Work that writes to a run; it loads what it needs itself."""
        phases = Phases([_CHANGING], reports.phase)
        phases.begin(_CHANGING)
        from energylens.ingest.on_request.store_methods import CHANGES

        phases.keep()
        self._held = None  # one model at a time
        return CHANGES[method.name](store, run.run_id, asked, reports)

    def _bench(self, params: dict[str, Any], reports: _WorkerProgress) -> "Reopened":
        """The run's model and SAEs; one run's are held at a time, which bounds memory."""
        store, run = self._place(params)
        if self._held is None or self._held[0] != (store, run.run_id):
            self._held = None
            self._held = ((store, run.run_id), _opened(store, run, reports))
        return self._held[1]

    def _place(self, params: dict[str, Any]) -> tuple[str, RunInfo]:
        store, run = params.get("store"), params.get("run")
        if not isinstance(store, str) or not isinstance(run, str):
            said = "params need store, the path of a store, and run, a run of it"
            raise _RequestError(BAD_PARAMS, said)
        return store, find_run(stored_runs(Path(store)), run)

    def _refuse(self, job_id: Id | None, code: int, message: str) -> None:
        self._send(error(job_id, code, "UsageError", message))

    def _send(self, answer: dict[str, Any]) -> None:
        self._send_line(encode(answer))

    def _send_line(self, line: str) -> None:
        with self._lock:
            self._answers.write(line.encode() + b"\n")
            self._answers.flush()


@dataclass(frozen=True)
class _Asked:
    """What a line asks; `id` None where it is a notification, which gets no answer."""

    id: Id | None
    method: str
    params: dict[str, Any]


def _understood(raw: Any) -> _Asked:
    if not isinstance(raw, dict):
        said = "a request is one JSON object; of a batch, send each on a line of its own"
        raise _RequestError(NO_REQUEST, said)
    if any(raw.get(name) != value for name, value in MARK.items()):
        raise _RequestError(NO_REQUEST, 'a request of JSON-RPC 2.0 holds "jsonrpc": "2.0"')
    if "id" in raw and _id_of(raw) is None:
        raise _RequestError(NO_REQUEST, "the id of a request is a text or a whole number")
    if not isinstance(raw.get("method"), str):
        raise _RequestError(NO_REQUEST, "a request needs a method, a text")
    if not isinstance(params := raw.get("params", {}), dict):
        raise _RequestError(BAD_PARAMS, "params are given by their names, in an object")
    return _Asked(_id_of(raw), raw["method"], params)


def _id_of(raw: Any) -> Id | None:
    """The id of a request; None where it has none that an answer could hold."""
    found = raw.get("id") if isinstance(raw, dict) else None
    return found if isinstance(found, (str, int)) and not isinstance(found, bool) else None


def _decoded(method: Method, params: dict[str, Any]) -> Any:
    assert method.request is not None, "asked for those that have one"
    try:
        return decode(method.request, params.get("request"))
    except UsageError as fault:
        raise _RequestError(BAD_PARAMS, str(fault)) from fault


def _opened(store: str, run: RunInfo, reports: _WorkerProgress) -> "Reopened":
    """Import what is not there yet, and load a run's model and SAEs."""
    missing = {module: name for module, name in _PIECES.items() if module not in sys.modules}
    model = run.model_sha256[:12]
    weights, saes = f"reading the weights of {model}", f"reading the SAEs of {run.run_id}"
    phases = Phases([*missing.values(), weights, saes], reports.phase)
    for module, name in missing.items():
        phases.begin(name)
        import_module(module)
    if missing:
        gc.freeze()  # what was imported is looked through in no collection
        gc.enable()
    from energylens.ingest.on_request.reopen import reopen

    phases.begin(weights)
    found = reopen(Path(store), run.run_id, lambda: phases.begin(saes))
    phases.keep()
    return found


def _in_full(run: RunInfo, asked: Any) -> Any:
    """A request with the names of SAEs in full, also in the edit it holds."""
    changed: dict[str, Any] = {}
    for field in fields(asked):
        value = getattr(asked, field.name)
        if is_dataclass(value):
            changed[field.name] = _in_full(run, value)
        elif field.name.endswith("sae_id") and value:
            changed[field.name] = find_sae(run, value).sae_id
    return replace(asked, **changed)


def _cost(reopened: "Reopened") -> LoadResult:
    """How long passes take here, so that a cost can be told beforehand."""
    whole = reopened.corpus.room * "a "
    ids = reopened.model.tokenizer.encode(whole, add_special_tokens=False)[: reopened.corpus.room]
    long = reopened.model.tokenizer.decode(ids[: max(1, len(ids) - 2)])
    seconds = []
    for text in ("a", "a", long):
        context = reopened.context(text)
        began = time.perf_counter()
        reopened.measure([context])
        seconds.append(time.perf_counter() - began)
    return LoadResult(seconds[1], len(context.ids) / seconds[2], reopened.run.n_ctx)
