"""Pages of docs/reference, made from the code: tables, queries, keys, and commands with options.

    python -m benchmarks.reference            # or: make reference

A test fails where a page is not what the code says.
"""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from energylens.cli import app
from energylens.cli.examples import EXAMPLES
from energylens.db.schema import TABLES
from energylens.db.views import sql_type
from energylens.queries.catalog import named_queries, usage
from energylens.tui.app import bindings_by_id

TARGET = Path("docs/reference")
_MADE = "This page is made from the code by `make reference`.\n"
_PLACES = {
    "run": "in run.json",
    "shard": "in every shard",
    "index": "in the index, or in `measured` where passes of the model made it",
    "beside": "in a file beside the shards",
    "store": "of the store, in `graphs/`",
}


def pages() -> dict[str, str]:
    """The content of each page by the name of its file."""
    return {
        "tables.md": _page("Tables", _tables()),
        "queries.md": _page("Named queries", _queries()),
        "keys.md": _page("Keys", _keys()),
        "options.md": _page("Commands and their options", _commands()),
    }


def _page(title: str, parts: Iterator[str]) -> str:
    return "\n".join([f"# {title}\n", _MADE, *parts]).rstrip() + "\n"


def _tables() -> Iterator[str]:
    yield "`energylens info STORE --schema` prints the same. Rows of a key are unique.\n"
    for table in TABLES.values():
        yield f"## {table.name}\n\n{_text(table.doc)}\n"
        yield f"Key: {', '.join(f'`{name}`' for name in table.key)}; {_PLACES[table.place]}.\n"
        rows = ((f"`{c.name}`", sql_type(c.type), _text(c.doc)) for c in table.columns)
        yield _table(("column", "type", "what it is"), rows)


def _queries() -> Iterator[str]:
    yield (
        "`energylens query STORE NAME key=value ...`, `FROM name(...)` in SQL, "
        '`store.query("name", ...)` in Python. Parameters with `:=` may be left out.\n'
    )
    for query in named_queries().values():
        yield f"## {query.name}\n\n```sql\n{usage(query)}\n```\n\n{_text(query.doc)}\n"


def _keys() -> Iterator[str]:
    yield "`?` in the program tells those of a screen. The id remaps a key in the settings.\n"
    found = sorted(bindings_by_id().items())
    rows = ((f"`{n}`", f"`{b.key}`", _text(b.tooltip or b.description)) for n, b in found)
    yield _table(("id", "keys", "what it does"), rows)


def _commands() -> Iterator[str]:
    yield "`--help` behind any of them shows the same.\n"
    for path, command in _leaves(typer.main.get_command(app), ()):
        yield f"## energylens {path}\n\n{_paragraphs(command.help)}\n"
        taken = [p for p in command.params if p.name != "help"]
        rows = [(_name(p), _text(getattr(p, "help", "") or ""), _default(p)) for p in taken]
        if rows:
            yield _table(("", "what it is", "by default"), iter(rows))
        yield "```\n" + "\n".join(EXAMPLES.get(path, ())) + "\n```\n"


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield " ".join(path), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _leaves(inner, (*path, name))


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    return " ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])


def _default(parameter: Any) -> str:
    value = parameter.default
    if parameter.required:
        return "must be given"
    if value is None or callable(value) or value in (False, "", (), []):
        return ""
    if value is True:
        return f"`{parameter.opts[0]}`"
    return f"`{value}`"


def _paragraphs(text: str) -> str:
    return "\n\n".join(_text(" ".join(part.split())) for part in text.split("\n\n"))


def _text(text: str) -> str:
    """A sentence of the code as Markdown: what is between backticks is code, and nothing else is
    anything but text."""
    parts = text.split("`")
    shown = [p if i % 2 else html.escape(p, quote=False) for i, p in enumerate(parts)]
    return "`".join(p if i % 2 else p.replace("*", "\\*") for i, p in enumerate(shown))


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, content in pages().items():
        (TARGET / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
