"""`energylens mcp`: a store for programs that speak the Model Context Protocol."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from energylens.cli.arguments import StoreArgument
from energylens.cli.sql import MemoryOption, TimeoutOption, given_limits
from energylens.errors import MissingExtraError

if TYPE_CHECKING:
    from energylens.queries.tools import Read


def mcp(
    store: StoreArgument,
    limit: Annotated[int, typer.Option(min=1, help="Most rows of an answer.")] = 100,
    timeout: TimeoutOption = 60,
    memory: MemoryOption = "50%",
    with_model: Annotated[
        bool,
        typer.Option("--with-model", help="Let texts be run through the models of the runs."),
    ] = False,
) -> None:
    """Serve a store to a language model's tools, over stdin and stdout; nothing is written."""
    if find_spec("mcp") is None:
        raise MissingExtraError("mcp", "mcp")
    from energylens.queries.tools import Allowed, StoreTools

    read = _reader(store) if with_model else None
    with StoreTools(store, Allowed(given_limits(timeout, memory), limit, read)) as tools:
        from energylens.cli.mcp_server import server_of

        server_of(tools, with_model).run("stdio")


def _reader(store: Path) -> "Read":
    """Reads texts with the model of a run; that of the last run asked for is held."""
    from energylens.cli.extras import need_models

    need_models()
    held = {}

    def read(run_id: str, text: str) -> str:
        from energylens.ingest.on_request.prompt import prompt
        from energylens.ingest.on_request.reopen import reopen
        from energylens.protocol import PromptRequest
        from energylens.wire import encode

        if run_id not in held:
            held.clear()
            held[run_id] = reopen(store, run_id)
        return encode(prompt(held[run_id], PromptRequest(text)))

    return read
