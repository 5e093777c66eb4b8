"""What answers the browser: only pages of this very server, and only with its token.

Other pages in the user's browser can send requests to this machine too. They cannot read the
token, which is the first part of every path. The browser tells the Host they think they talk to
and the Origin they come from, and both are checked before the token is.
"""

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from aiohttp import web
from textual_serve.server import Server

_LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))
"""Hosts that no name server can give to somebody else. Ports are not compared: one may be
forwarded."""
_PAGE = Path(__file__).with_name("page.html")
_SCRIPT = _PAGE.with_suffix(".js")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class GuardedServer(Server):
    """Starts the command anew for each page."""

    def __init__(self, command: str, token: str) -> None:
        super().__init__(command)
        self._token = token

    async def application(self) -> web.Application:
        """All that is served, below the token."""
        guarded = web.Application(middlewares=[self._guard])
        pages = await self._make_app()
        pages.router.add_get("/page.js", self.handle_script)
        guarded.add_subapp(f"/{self._token}/", pages)
        return guarded

    async def on_startup(self, app: web.Application) -> None:
        """Say nothing: the address is printed once it can be reached."""

    async def handle_index(self, request: web.Request) -> web.Response:
        """The page: everything it loads is served from here."""
        websocket = f"ws://{request.host}{request.path}ws"
        page = Template(_PAGE.read_text()).substitute(websocket=websocket)
        return web.Response(text=page, content_type="text/html", headers=_only_from(request.host))

    async def handle_script(self, request: web.Request) -> web.Response:
        """What the page does beside the terminal."""
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        return web.Response(
            text=_SCRIPT.read_text(), content_type="text/javascript", headers=headers
        )

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if not _is_own(request):
            raise web.HTTPForbidden(text="This page is not one of Energy-Lens on this machine.\n")
        given = request.path.split("/")[1]
        if not secrets.compare_digest(given.encode(), self._token.encode()):
            raise web.HTTPForbidden(text="Open the address that the command printed, whole.\n")
        return await handler(request)


def _is_own(request: web.Request) -> bool:
    """Whether the Host is this machine, and the Origin, where one is told, this server."""
    hosts, origins = request.headers.getall("Host", []), request.headers.getall("Origin", [])
    if len(hosts) != 1 or not _is_loopback(hosts[0]):
        return False
    return all(origin == f"http://{hosts[0]}" for origin in origins)


def _is_loopback(host: str) -> bool:
    try:
        split = urlsplit(f"http://{host}")
        return split.hostname in _LOOPBACK and split.netloc == host and split.username is None
    except ValueError:
        return False


def _only_from(host: str) -> dict[str, str]:
    """Headers that have a browser load nothing from elsewhere and tell nobody the address."""
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        f"font-src 'self'; img-src 'self' data:; connect-src ws://{host}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
