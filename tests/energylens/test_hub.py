"""The hub is asked once and briefly, and what it alone has is refused in a sentence."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from energylens import hub
from energylens.errors import HubError
from energylens.hub import need_hub, registered_repository, why_unreachable
from energylens.ingest.hub_texts import hub_rows, pinned
from energylens.lens.models import load_model
from energylens.lens.saes import load_saes


class Refusing(BaseHTTPRequestHandler):
    """Answers that there is nothing here, and writes no log."""

    def do_HEAD(self) -> None:
        self.server.n_asked += 1  # type: ignore[attr-defined]
        self.send_response(404)
        self.end_headers()

    def log_message(self, *args: object, **more: object) -> None:
        pass


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A client that may ask and has kept nothing."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "kept"))
    hub._reach.cache_clear()
    yield
    hub._reach.cache_clear()


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    server.n_asked = 0  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{found.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    return address


def test_any_answer_counts_and_is_asked_for_once(answering: HTTPServer) -> None:
    need_hub("the model 'a/b'", "a/b")
    assert why_unreachable() is None
    assert answering.n_asked == 1  # type: ignore[attr-defined]
    assert not constants.HF_HUB_OFFLINE


def test_nobody_there_is_told_with_the_cause(closed: str) -> None:
    assert why_unreachable() == "Connection refused"
    with pytest.raises(HubError) as raised:
        need_hub("the model 'a/b'", "a/b")
    for said in ("the model 'a/b'", "127.0.0.1", "Connection refused", "give a file or folder"):
        assert said in str(raised.value)


def test_a_failure_is_not_remembered(closed: str, answering: HTTPServer) -> None:
    port = answering.server_port
    hub_address = hub.endpoint()
    assert str(port) in hub_address and why_unreachable() is None
    assert hub._reach.cache_info().currsize == 1
    with pytest.raises(ConnectionError):
        hub._reach(closed, 1.0)
    assert hub._reach.cache_info().currsize == 1


def test_who_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    """As where the look-up of a name hangs, for which no time limit can be set."""
    for_ever = threading.Event()
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "1")
    monkeypatch.setattr(hub, "_ask", lambda address, seconds: for_ever.wait(60) and None)
    assert why_unreachable() == "no answer within 1 s"
    for_ever.set()


def test_a_connection_without_an_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "1")
        assert why_unreachable() in ("timed out", "no answer within 1 s")


@pytest.mark.parametrize("address", ["nonsense", "http://", "http://[::", "file:///etc/hostname"])
def test_an_address_that_is_none_is_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert why_unreachable()


def test_what_is_kept_is_read_without_asking(closed: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "models--a--b" / "snapshots" / "0" / "config.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    need_hub("the model 'a/b'", "a/b")
    assert constants.HF_HUB_OFFLINE
    with pytest.raises(HubError):
        need_hub("the dataset 'a/b'", "a/b", "dataset")


def test_a_client_that_was_told_to_ask_nobody_is_obeyed(
    answering: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        need_hub("the model 'a/b'", "a/b")
    assert answering.n_asked == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["a b", "a/b/c", "../up", "a\0b", "http://x/y", ""])
def test_what_cannot_be_a_name_is_left_to_the_client(name: str, closed: str) -> None:
    need_hub("it", name)


def test_every_way_to_the_hub_passes_here(closed: str) -> None:
    """The model, the SAE and the texts; before sae-lens or `datasets` try again and again."""
    with pytest.raises(HubError, match="the model 'gpt2'"):
        load_model("gpt2")
    with pytest.raises(HubError, match="the SAE 'gpt2-small-res-jb/"):
        load_saes(["gpt2-small-res-jb/blocks.8.hook_resid_pre"])
    with pytest.raises(HubError, match="the dataset 'some/texts'"):
        pinned("hf:some/texts")
    with pytest.raises(HubError, match="the dataset 'some/texts'"):
        next(iter(hub_rows("hf:some/texts:train@abc")))


@pytest.mark.parametrize(
    "options",
    [
        {"model": "gpt2"},
        {"model": "builtin:llama", "saes": ["gpt2-small-res-jb/blocks.8.hook_resid_pre"]},
        {"texts": "hf:some/texts"},
    ],
)
def test_a_command_is_told_before_anything_heavy_is_loaded(
    options: dict[str, object], closed: str
) -> None:
    program = f"""
import sys
from energylens.cli.sources import need_sources
try:
    need_sources(**{options!r})
except Exception as error:
    print(type(error).__name__, sorted({{"torch", "datasets", "sae_lens"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["HubError", "[]"]


def test_what_is_here_asks_nobody(closed: str, tmp_path: Path) -> None:
    from energylens.cli.sources import need_sources

    need_sources("builtin:llama", ["builtin:llama", str(tmp_path)], "builtin:categories")
    need_sources(str(tmp_path), [f"{tmp_path}/x", "unknown-release/x"], f"hf:{tmp_path}")


def test_releases_are_found_as_sae_lens_finds_them() -> None:
    known = get_pretrained_saes_directory()
    assert len(known) > 100
    assert {name: registered_repository(name) for name in known} == {
        name: entry.repo_id for name, entry in known.items()
    }
    assert registered_repository("no-such-release") is None
    assert registered_repository("") is None
