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
from energylens.protocol import (
    MOST_BYTES,
    VERSION,
    AttentionRequest,
    AttributionRequest,
    CausalityRequest,
    EfasRequest,
    IndexRequest,
    InterventionRequest,
    LoadResult,
    ProgressReport,
    PromptRequest,
    SourcesRequest,
    SteeringRequest,
    VectorsRequest,
)
from energylens.queries.names import find_run, find_sae, stored_runs
from energylens.wire import decode, encode

if TYPE_CHECKING:
    from energylens.ingest.on_request.reopen import Reopened

MOST_WAITING = 64
"""Requests that may wait; more are refused."""
_REPORTS_A_SECOND = 4

_METHODS: dict[str, type] = {
    "prompt": PromptRequest,
    "intervene": InterventionRequest,
    "attribute": AttributionRequest,
    "steer": SteeringRequest,
    "attention": AttentionRequest,
    "sources": SourcesRequest,
}
_STORE_METHODS: dict[str, type] = {
    "efas": EfasRequest,
    "causality": CausalityRequest,
    "vectors": VectorsRequest,
    "index": IndexRequest,
}
"""Methods that write to a run; they load what they need themselves."""
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

    id: str | int
    method: str
    params: dict[str, Any]
    is_cancelled: bool = False


class _CancelledError(Exception):
    """The request was cancelled while it ran."""


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
        self._send({"id": self._job.id, "progress": told})

    def check(self) -> None:
        """Stop here if the job has been cancelled."""
        if self._job.is_cancelled:
            raise _CancelledError


class Worker:
    """Answers requests from one stream on another."""

    def __init__(self, requests: BufferedIOBase, answers: BufferedIOBase) -> None:
        self._requests, self._answers = requests, answers
        self._waiting: Queue[_Job | None] = Queue(MOST_WAITING)
        self._jobs: dict[str | int, _Job] = {}
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
                    self._refuse(None, f"a request has at most {MOST_BYTES:,} bytes")
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
        except (ValueError, RecursionError) as error:
            self._refuse(None, f"a line is no JSON object: {error}")
            return True
        if not isinstance(raw, dict):
            self._refuse(None, "a request is a JSON object with id, method and params")
            return True
        job_id, method, params = raw.get("id"), raw.get("method"), raw.get("params", {})
        if isinstance(job_id, bool) or not isinstance(job_id, (str, int)):
            self._refuse(None, "a request needs an id, a text or a whole number")
        elif not isinstance(method, str) or not isinstance(params, dict):
            self._refuse(job_id, "a request needs a method, a text, and params, an object")
        elif method == "shutdown":
            self._send({"id": job_id, "result": {}})
            return False
        elif method == "cancel":
            self._cancel(job_id, params.get("id"))
        else:
            self._queue(_Job(job_id, method, params))
        return True

    def _queue(self, job: _Job) -> None:
        with self._lock:
            if job.id in self._jobs:
                known = True
            else:
                known, self._jobs[job.id] = False, job
        if known:
            self._refuse(job.id, f"a request with the id {job.id!r} is still under way")
            return
        try:
            self._waiting.put_nowait(job)
        except Full:
            with self._lock:
                del self._jobs[job.id]
            self._refuse(job.id, f"{MOST_WAITING} requests wait already; ask again later")

    def _cancel(self, own_id: str | int, other: Any) -> None:
        with self._lock:
            job = self._jobs.get(other) if isinstance(other, (str, int)) else None
            if job is not None:
                job.is_cancelled = True
        self._send({"id": own_id, "result": {"cancelled": job is not None}})

    def _answer(self, job: _Job) -> None:
        progress = _WorkerProgress(job, self._send)
        try:
            progress.check()
            found = self._work(job, progress)
            progress.check()
        except _CancelledError:
            self._error(job.id, "Cancelled", "the request was cancelled")
        except EnergyLensError as error:
            self._error(job.id, type(error).__name__, str(error))
        except BrokenPipeError:
            raise
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            what = f"the worker failed at this request ({type(error).__name__}: {error})"
            self._error(job.id, "InternalError", what)
        else:
            self._send_line(f'{{"id": {json.dumps(job.id)}, "result": {encode(found)}}}')

    def _work(self, job: _Job, progress: _WorkerProgress) -> Any:
        if job.method == "hello":
            return {
                "protocol": VERSION,
                "energylens": energylens.__version__,
                "methods": [
                    "hello",
                    "load",
                    "open",
                    *_METHODS,
                    *_STORE_METHODS,
                    "cancel",
                    "shutdown",
                ],
            }
        if job.method in ("load", "open"):
            reopened = self._bench(job.params, progress)
            return {} if job.method == "open" else _cost(reopened)
        if job.method in _STORE_METHODS:
            store, run = self._place(job.params)
            asked = _in_full(run, decode(_STORE_METHODS[job.method], job.params.get("request")))
            phases = Phases([_CHANGING], progress.phase)
            phases.begin(_CHANGING)
            from energylens.ingest.on_request.store_methods import CHANGES

            phases.keep()
            self._held = None  # one model at a time
            return CHANGES[job.method](Path(store), run.run_id, asked, progress)
        if job.method not in _METHODS:
            raise UsageError(f"there is no method '{job.method}'; hello lists them")
        _, run = self._place(job.params)
        asked = _in_full(run, decode(_METHODS[job.method], job.params.get("request")))
        reopened = self._bench(job.params, progress)
        from energylens.ingest.on_request.methods import ANSWERS

        return ANSWERS[job.method](reopened, asked, progress)

    def _bench(self, params: dict[str, Any], progress: _WorkerProgress) -> "Reopened":
        """The run's model and SAEs; one run's are held at a time, which bounds memory."""
        store, run = self._place(params)
        if self._held is None or self._held[0] != (store, run.run_id):
            self._held = None
            self._held = ((store, run.run_id), _opened(store, run, progress))
        return self._held[1]

    def _place(self, params: dict[str, Any]) -> tuple[str, RunInfo]:
        store, run = params.get("store"), params.get("run")
        if not isinstance(store, str) or not isinstance(run, str):
            raise UsageError("params need store, the path of a store, and run, a run of it")
        return store, find_run(stored_runs(Path(store)), run)

    def _refuse(self, job_id: str | int | None, message: str) -> None:
        self._error(job_id, "UsageError", message)

    def _error(self, job_id: str | int | None, kind: str, message: str) -> None:
        self._send({"id": job_id, "error": {"kind": kind, "message": message}})

    def _send(self, answer: dict[str, Any]) -> None:
        self._send_line(encode(answer))

    def _send_line(self, line: str) -> None:
        with self._lock:
            self._answers.write(line.encode() + b"\n")
            self._answers.flush()


def _opened(store: str, run: RunInfo, progress: _WorkerProgress) -> "Reopened":
    """Import what is not there yet, and load a run's model and SAEs."""
    missing = {module: name for module, name in _PIECES.items() if module not in sys.modules}
    model = run.model_sha256[:12]
    weights, saes = f"reading the weights of {model}", f"reading the SAEs of {run.run_id}"
    phases = Phases([*missing.values(), weights, saes], progress.phase)
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
