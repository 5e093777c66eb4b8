"""The TUI in a browser: whoever has the printed address is served, from this machine, and alone."""

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

aiohttp = pytest.importorskip("aiohttp")
pytest.importorskip("textual_serve")
FOREIGN = "http://evil.example"


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    url: str
    """As printed, with the token."""
    port: int

    @property
    def root(self) -> str:
        """The same place without the token."""
        return f"http://127.0.0.1:{self.port}/"


@pytest.fixture(scope="module")
def served(store_path: Path) -> Iterator[Served]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = int(listening.getsockname()[1])
    command = [sys.executable, "-m", "energylens", "tui", str(store_path), "--serve"]
    process = subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield Served(process.stdout.readline().strip(), port)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=20)
    assert "Traceback" not in said


async def status(url: str, **headers: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status


async def opened(url: str, headers: dict[str, str]) -> bytes:
    """What the program sends first over a websocket."""
    sized = f"{url}?width=80&height=24"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(sized, headers=headers) as page,
    ):
        out = b""
        while b"Overvie" not in out:
            message = await asyncio.wait_for(page.receive(), 60)
            assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT)
            out += message.data if isinstance(message.data, bytes) else b""
        return out


async def test_the_printed_address_shows_the_program(served: Served) -> None:
    assert re.fullmatch(rf"{re.escape(served.root)}[\w-]{{40,}}/", served.url)
    own = {"Origin": served.root.rstrip("/")}
    assert await opened(urljoin(served.url, "ws"), own)


async def test_the_page_loads_nothing_from_elsewhere(served: Served) -> None:
    async with aiohttp.ClientSession() as session, session.get(served.url) as answer:
        page, policy = await answer.text(), answer.headers["Content-Security-Policy"]
        assert answer.headers["Referrer-Policy"] in ("no-referrer", "same-origin")
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    named = re.findall(r"""(?:href|src|data-session-websocket-url|url\()\s*=?\s*"([^"]*)""", page)
    loaded = [urljoin(served.url, name) for name in named if name and not name.startswith("data:")]
    assert len(loaded) == 6
    for url in loaded:
        assert urlsplit(url).netloc == f"127.0.0.1:{served.port}"
        if url.startswith("http"):
            assert await status(url) == 200, url
    assert "//" not in re.sub(rf"ws://127.0.0.1:{served.port}/", "", page)


@pytest.mark.parametrize("path", ["", "ws", "static/js/textual.js", "x" * 43 + "/", "..", "%2e/ws"])
async def test_without_the_token_nothing_is_served(served: Served, path: str) -> None:
    assert await status(served.root + path) == 403
    assert await status(served.url[:-2] + "/" + path) == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": FOREIGN},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:{port}.evil.example"},
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "127.0.0.1:{port}@evil.example"},
        {"Host": "x@127.0.0.1:{port}"},
        {"Host": "[::1"},
        {"Host": ""},
    ],
)
async def test_other_pages_are_refused_even_with_the_token(
    served: Served, headers: dict[str, str]
) -> None:
    sent = {name: value.format(port=served.port) for name, value in headers.items()}
    for path in ("", "ws", "static/css/xterm.css"):
        assert await status(served.url + path, **sent) in (400, 403), (path, sent)
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await opened(urljoin(served.url, "ws"), sent)


async def test_a_forwarded_port_is_served(served: Served) -> None:
    own = {"Host": "localhost:9999", "Origin": "http://localhost:9999"}
    assert await status(served.url, **own) == 200
    async with aiohttp.ClientSession() as session, session.get(served.url, headers=own) as answer:
        assert "ws://localhost:9999/" in await answer.text()


def test_the_browser_is_served_on_loopback_only(served: Served) -> None:
    listening = Path("/proc/net/tcp").read_text().split("\n")[1:]
    own = [line.split()[1] for line in listening if f":{served.port:04X} " in line[:30]]
    assert own and all(address.startswith("0100007F:") for address in own), own


def test_a_store_that_is_not_there_is_not_served(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "energylens", "tui", str(tmp_path / "no.lens"), "--serve"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "no.lens" in done.stderr and "Traceback" not in done.stderr
