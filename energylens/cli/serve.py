"""The TUI in a browser on this machine."""

import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

from energylens.errors import MissingExtraError, UsageError

HOST = "127.0.0.1"
"""Loopback only: whoever reaches the page reads the store, and may run models."""
IN_BROWSER = "TEXTUAL_DRIVER"
"""Set in the process that draws for a browser: it has no terminal and needs none."""


def serve(store: Path, port: int, arguments: list[str]) -> None:
    """Serve the TUI of a store until Ctrl-C; each page that is opened starts one of its own.

    Raises:
        MissingExtraError: textual-serve is not installed.
        UsageError: there is no such store, or the port is taken.
    """
    if find_spec("textual_serve") is None:
        raise MissingExtraError("web", "textual-serve")
    from textual_serve.server import Server

    from energylens.queries.catalog import open_catalog

    open_catalog(store).close()  # what is wrong with it is said here, not in every page
    command = [sys.executable, "-m", "energylens", "tui", str(store.resolve()), *arguments]
    try:
        Server(shlex.join(command), host=HOST, port=port, title="Energy-Lens").serve()
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"port {port} cannot be served on ({reason}); try --port") from error


def is_in_browser() -> bool:
    """Whether this process draws for a page."""
    return IN_BROWSER in os.environ
