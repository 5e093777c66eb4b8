"""Write docs/worker.md and docs/worker.json from the worker's methods and records.

python -m benchmarks.worker_page
"""

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from energylens.methods import METHODS, Method
from energylens.rpc import CODES, MOST_BYTES, VERSION, error, progress, request, result
from energylens.wire_schema import field_docs, openrpc, records

DOCS = Path(__file__).resolve().parents[1] / "docs"

_HEAD = f"""# The worker's protocol, version {VERSION}

<!-- Made by: python -m benchmarks.worker_page -->

`energylens worker` holds a model and its SAEs and answers requests on stdin with lines on stdout,
until stdin ends. It speaks [JSON-RPC 2.0](https://www.jsonrpc.org/specification), one message a
line, UTF-8, at most {MOST_BYTES:,} bytes a request. Anything else a library prints goes to
stderr. The TUI starts one by itself; `energylens tui STORE --worker "ssh box energylens worker"
--worker-store /path/on/box` lets another machine compute. [worker.json](worker.json) has the same
as a document of [OpenRPC](https://open-rpc.org), its records as JSON Schema; `energylens worker
--schema` prints it.
"""

_RULES = """
* `id` is a text or a whole number that no waiting request has. Every request gets exactly one
  `result` or `error`, after any number of notifications `progress`; an error about a line that
  has no id has `id` null. A request without an id is a notification and gets no answer: `cancel`
  and `shutdown` are heard, others let go by.
* Params are given by name. Batches are refused: send each request on a line of its own.
* Requests are worked on one after the other, in their order; 64 may wait. `cancel` is heard at
  once and works on waiting and on running requests. When stdin ends, what runs is cancelled.
* `params` names a store and a run of it; model and SAEs are the run's, and are refused if they
  are no longer what the run was made with. One run's model is held at a time.
* The terminal program shows no answer whose parts do not fit together: lists of another length
  than the tokens, layers or features they are of, places outside the text, whole numbers beyond
  64 bits, half characters.
* An error's `data.kind` is the name of the error (`UsageError`, `StoreError`, ...), `Cancelled`,
  or `InternalError`, after which the worker goes on.
* A start takes seconds: libraries, weights and SAEs are loaded with the first request for a run,
  phase by phase. `seconds_left` is until the last of them has ended, from how long each took the
  last time on the worker's machine (`worker-starts.json` in the state directory); it is left out
  while that is not known.
* NaN and infinity are written as null. A field that a request leaves out has its default.
* An edit may have a condition (`when`): it then acts only at tokens where the condition holds in
  the pass that is edited. The answer tells where that was, and how often it holds in the run's
  texts, with precision and recall by category.
"""


def page() -> str:
    """The text of docs/worker.md."""
    parts = [_HEAD, _example(), _RULES, _methods(), _errors(), "\n## Records\n"]
    return "".join([*parts, *(_record(record) for record in records())])


def _example() -> str:
    asked = {"store": "demo.lens", "run": "mesanet-...", "request": {"text": "Hello"}}
    phase = {"phase": "loading torch", "done": 0, "total": 0, "unit": "", "seconds_left": 5.9}
    lines = [
        f"> {json.dumps(request(2, 'prompt', asked))}",
        f"< {json.dumps(progress(2, phase))}",
        f"< {json.dumps(result(2, {'reading': {}, 'other': None, 'kept_as': None}))}",
        f"> {json.dumps(request(4, 'cancel', {'id': 3}))}",
        f"< {json.dumps(result(4, {'cancelled': True}))}",
        f"< {json.dumps(error(3, -32800, 'Cancelled', 'the request was cancelled'))}",
    ]
    return "\n```\n" + "\n".join(lines) + "\n```\n"


def _methods() -> str:
    lines = ["\n## Methods\n", "| method | params | result | what |", "|---|---|---|---|"]
    return "\n".join([*lines, *map(_row, METHODS)]) + "\n"


def _row(method: Method) -> str:
    asked = "" if method.request is None else _link(method.request)
    place = ["`store`", "`run`"] if method.has_place else []
    if asked:
        place.append(f"`request`: {asked}" if method.has_place else asked)
    writes = " (writes to the store)" if method.writes else ""
    return (
        f"| `{method.name}` | {', '.join(place)} | {_link(method.result)} | {method.what}{writes} |"
    )


def _errors() -> str:
    rows = [f"| {code} | {said} |" for code, said in CODES.items()]
    return "\n".join(["\n## Errors\n", "| code | what it says |", "|---|---|", *rows]) + "\n"


def _record(record: type) -> str:
    said = field_docs(record)
    lines = [f"\n### {record.__name__}\n", " ".join((record.__doc__ or "").split())]
    known: tuple[Any, ...] = fields(record)  # type: ignore[arg-type]
    if known:
        lines += ["", "| field | type | default | what it is |", "|---|---|---|---|"]
    for field in known:
        default = "" if field.default is MISSING else f"`{json.dumps(field.default)}`"
        kind = _type(field.type)
        lines.append(f"| `{field.name}` | {kind} | {default} | {_cell(said.get(field.name, ''))} |")
    return "\n".join(lines) + "\n"


def _type(kind: Any) -> str:
    shown = kind.__name__ if isinstance(kind, type) and "[" not in str(kind) else str(kind)
    for module in ("energylens.protocol.", "energylens.when.", "energylens.methods."):
        shown = shown.replace(module, "")
    return f"`{_cell(shown)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _link(record: type) -> str:
    return f"[{record.__name__}](#{record.__name__.lower()})"


def schema() -> str:
    """The text of docs/worker.json."""
    return json.dumps(openrpc(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    (DOCS / "worker.md").write_text(page(), encoding="utf-8")
    (DOCS / "worker.json").write_text(schema(), encoding="utf-8")


if __name__ == "__main__":
    main()
