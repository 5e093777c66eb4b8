"""An address that is slow, fails, lies, stops in the middle, sends elsewhere, or is none."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from energylens.errors import SpeakerError, UsageError
from energylens.explaining import endpoint
from energylens.explaining.endpoint import KEY, Endpoint
from energylens.explaining.speaker import Prompt
from tests.endpoints import SECRET, Answer, Server, raw, says, serving

PROMPT = Prompt("be brief", 'a "text" ü', 20)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(endpoint, "_WAIT", 0.0)
    monkeypatch.delenv(KEY, raising=False)
    with serving() as told:
        yield told


def test_it_is_asked_as_chat_completions_are(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = [says("an answer")]
    assert Endpoint(f"{server.url}/", "some/model").say(PROMPT) == "an answer"
    path, headers, body = server.seen[0]
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "some/model",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": 'a "text" ü'},
        ],
        "max_tokens": 20,
        "temperature": 0,
    }
    assert "Authorization" not in headers
    monkeypatch.setenv(KEY, f" {SECRET}\n")
    Endpoint(server.url, "m").say(PROMPT)
    assert server.seen[1][1]["Authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_failure_that_passes_is_waited_for(server: Server, status: int) -> None:
    server.answers = [raw(b"busy", status), raw(b"{", 200), says("done")]
    assert Endpoint(server.url, "m").say(PROMPT) == "done"
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (raw(b"oops", 500), "status 500"),
        (raw(b"not json"), "no chat completion"),
        (raw(b'{"choices": []}'), "no chat completion"),
        (raw(b'{"choices": "abc"}'), "no chat completion"),
        (raw(b"[[[[" * 5000), "no chat completion"),
        (says(["a"]), "no text"),
        (raw(b"x" * (1 << 20) + b"y"), "longer than"),
        (raw(b'{"cho', length="5000"), "connection broke|no chat completion"),
    ],
)
def test_one_that_goes_on_failing_is_told_with_what_to_do(
    server: Server, answer: Answer, said: str
) -> None:
    server.answers = [answer]
    with pytest.raises(SpeakerError, match=f"gave no answer in 4 tries: .*({said}).*the same"):
        Endpoint(server.url, "m").say(PROMPT)
    assert len(server.seen) == 4


@pytest.mark.parametrize(("status", "said"), [(401, KEY), (403, KEY), (404, "/v1"), (400, "take")])
def test_a_refusal_is_told_at_once_and_never_quoted(
    server: Server, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    monkeypatch.setenv(KEY, SECRET)
    server.answers = [raw(f"bad key {SECRET}".encode(), status)]
    with pytest.raises(SpeakerError, match=f"status {status}: .*{said}") as error:
        Endpoint(server.url, "m").say(PROMPT)
    assert len(server.seen) == 1
    assert SECRET not in f"{error.value!r} {error.value.__cause__!r}"


def test_nobody_is_sent_elsewhere(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    server.answers = [raw(b"", 307, location=f"{server.url}/chat/completions"), says("x")]
    with pytest.raises(SpeakerError, match="another address"):
        Endpoint(server.url, "m").say(PROMPT)
    assert len(server.seen) == 1


def test_silence_and_drops_of_an_answer_end(server: Server) -> None:
    is_over = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        is_over.wait(20)

    def dripping(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not is_over.wait(0.05):
            try:
                handler.wfile.write(b" ")
                handler.wfile.flush()
            except OSError:
                return

    try:
        for answer in (silent, dripping):
            server.answers = [answer]
            with pytest.raises(SpeakerError, match=r"nothing whole came in 0.2 seconds"):
                Endpoint(server.url, "m", seconds=0.2).say(PROMPT)
    finally:
        is_over.set()


def test_an_address_where_nobody_listens_is_named(server: Server) -> None:
    away = Endpoint("http://127.0.0.1:9/v1", "m")
    with pytest.raises(SpeakerError, match=r"'http://127.0.0.1:9/v1'.*cannot be reached"):
        away.say(PROMPT)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "no http"),
        ("file:///etc/passwd", "no http"),
        ("ftp://x/v1", "no http"),
        ("127.0.0.1:8000", "no http"),
        ("http://", "no http"),
        ("http://x:y/v1", "no address"),
        ("http://[::1/v1", "no address"),
        (f"https://user:{SECRET}@host:x/v1", "no address"),
        (f"https://user:{SECRET}@host/v1", "holds no name or key"),
        (f"https://host/v1?key={SECRET}", "no \\?"),
        ("http://host/v1\nX-Odd: 1", "odd"),
    ],
)
def test_what_is_no_address_is_refused_and_no_key_repeated(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        Endpoint(url, "m")
    assert SECRET not in str(error.value)


def test_a_key_that_is_none_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, f"{SECRET}\nX-Odd: 1")
    with pytest.raises(UsageError, match=KEY) as error:
        Endpoint(server.url, "m").say(PROMPT)
    assert SECRET not in str(error.value)
    assert not server.seen
