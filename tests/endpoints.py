"""An address on this machine that answers as it is told to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "sk-very-secret-0123456789"
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """`answers` are given in turn, the last one for ever; a rule makes them of what is asked."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    rule: Callable[[Any], Answer] | None = None
    seen: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)


def says(content: object, status: int = 200) -> Answer:
    """A chat completion."""
    return raw(json.dumps({"choices": [{"message": {"content": content}}]}).encode(), status)


def raw(body: bytes, status: int = 200, **headers: str) -> Answer:
    """Any bytes; the reason of a refusal repeats the key, as some servers do."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status, f"{SECRET} is wrong" if status == 401 else None)
        handler.send_header("Content-Length", headers.get("length", str(len(body))))
        if "location" in headers:
            handler.send_header("Location", headers["location"])
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@contextmanager
def serving() -> Iterator[Server]:
    """A server on the loopback, until the block ends."""
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.seen.append((self.path, dict(self.headers), body))
            rule = told.rule and told.rule(body)
            (rule or told.answers[min(len(told.seen), len(told.answers)) - 1])(self)

        def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    told.url = f"http://127.0.0.1:{listening.server_port}/v1"
    try:
        yield told
    finally:
        listening.shutdown()
        listening.server_close()
