"""Groups of commands: help in whole sentences, and an example below each command's."""

import re
from typing import Any

from typer.core import TyperGroup

from energylens.cli.examples import EXAMPLES

_SENTENCE = re.compile(r"(.*?[.!?])(?:\s+[A-Z`]|\s*$)", re.DOTALL)


class Commands(TyperGroup):
    """A group that lists its commands with their first sentences, however long."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands; click would cut their sentences to one line."""
        known = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, first_sentence(command.help or "")) for name, command in known if command]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name, its examples below its options."""
        command = super().get_command(ctx, cmd_name)
        path = " ".join([*ctx.command_path.split()[1:], cmd_name])
        if command is not None and path in EXAMPLES:
            command.epilog = _shown(EXAMPLES[path])
        return command


def first_sentence(text: str) -> str:
    """The first sentence of a help text, on one line."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    found = _SENTENCE.match(paragraph)
    return found[1] if found else paragraph


def _shown(lines: tuple[str, ...]) -> str:
    n = sum(not line.endswith("\\") for line in lines)
    title = "Example:" if n == 1 else "Examples:"
    return "\n".join(["\b", title, *(f"  {line}" for line in lines)])
