"""The TUI in a browser on this machine, for whoever has the printed address and no one else."""

import os
import secrets
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import typer

from energylens.errors import MissingExtraError, UsageError

HOST = "127.0.0.1"
"""Loopback only: whoever reaches the page reads the store, and may run models."""
IN_BROWSER = "TEXTUAL_DRIVER"
"""Set in the process that draws for a browser: it has no terminal and needs none."""
_PATIENCE = 2.0
"""Seconds that open pages have to end in."""


def serve(store: Path, port: int, arguments: list[str]) -> None:
    """Serve the TUI of a store until Ctrl-C; each page that is opened starts one of its own.

    Raises:
        MissingExtraError: textual-serve is not installed.
        UsageError: there is no such store, or the port is taken.
    """
    if find_spec("textual_serve") is None:
        raise MissingExtraError("web", "textual-serve")
    from aiohttp import web

    from energylens.cli.guarded_server import GuardedServer
    from energylens.queries.catalog import open_catalog

    open_catalog(store).close()  # what is wrong with it is said here, not in every page
    command = [sys.executable, "-m", "energylens", "tui", str(store.resolve()), *arguments]
    token = secrets.token_urlsafe(32)

    def tell(_: str) -> None:
        typer.echo(f"http://{HOST}:{port}/{token}/\nOpen this address; Ctrl-C ends it.")

    app = GuardedServer(shlex.join(command), token).application()
    try:
        web.run_app(app, host=HOST, port=port, print=tell, shutdown_timeout=_PATIENCE)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"port {port} cannot be served on ({reason}); try --port") from error


def is_in_browser() -> bool:
    """Whether this process draws for a page."""
    return IN_BROWSER in os.environ
