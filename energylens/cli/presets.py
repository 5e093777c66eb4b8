"""`energylens presets`, and what `energylens ingest` takes of one."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from energylens.cli.sql import FormatOption, checked_format
from energylens.errors import UsageError

if TYPE_CHECKING:
    from energylens.ingest.presets import Preset

_DEFAULTS: Mapping[str, object] = {
    "saes": (),
    "hooks": (),
    "energies": "all",
    "keep": "",
    "dtype": "float32",
    "batch_tokens": 2048,
}
"""What an ingest takes where neither an option nor a preset says it."""
_FLAGS = {"saes": "--sae", "hooks": "--hook"}
"""Options that are not called as the field is; those that may be repeated."""


def presets(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show the command it stands for.")
    ] = None,
    how: FormatOption = "table",
) -> None:
    """List the presets of `energylens ingest --preset`, those that come along and your own."""
    from energylens.ingest.presets import find_preset, own_folder
    from energylens.queries.writing import Format

    form = checked_format(how)
    if name is not None:
        typer.echo(_command(find_preset(name), name))
        return
    rows, wrong = _rows()
    if form is Format.table:
        for row in rows:
            typer.echo(_told(row))
        typer.echo(f"your own: NAME.toml in '{own_folder()}' (docs/presets.md)", err=True)
    else:
        import polars as pl

        from energylens.cli.output import print_frame

        print_frame(pl.DataFrame(rows), form)
    for said in wrong:
        typer.echo(f"energylens: {said}", err=True)
    if wrong:
        raise typer.Exit(UsageError.exit_code)


def wished(preset: str | None, options: Mapping[str, object]) -> "Preset":
    """What is to be ingested: each option that was given, else the preset's, else the default.

    Raises:
        UsageError: there is no such preset, or nothing says which model and texts.
    """
    from energylens.ingest.presets import Preset, find_preset

    known = {} if preset is None else find_preset(preset).given
    chosen: dict[str, Any] = {
        **_DEFAULTS,
        **known,
        **{option: value for option, value in options.items() if value is not None},
    }
    for needed in ("model", "texts"):
        if needed not in chosen:
            raise UsageError(
                f"say which {needed}: give --{needed}, or --preset NAME with one of those that "
                "`energylens presets` lists"
            )
    return Preset(about="", **chosen)


def _rows() -> tuple[list[dict[str, object]], list[str]]:
    """A row for each preset, and what is wrong with those that cannot be read."""
    from energylens.ingest.presets import presets as listed
    from energylens.ingest.presets import read_preset

    rows: list[dict[str, object]] = []
    wrong = []
    for one in listed():
        try:
            found = read_preset(one)
        except UsageError as error:
            wrong.append(str(error))
            continue
        rows.append(
            {
                "name": one.name,
                "about": found.about,
                "model": found.model,
                "n_saes": len(found.saes or ()),
                "texts": found.texts,
                "needs": "; ".join(found.needs),
                "is_own": one.is_own,
            }
        )
    return rows, wrong


def _told(row: dict[str, object]) -> str:
    own = " (your own)" if row["is_own"] else ""
    needs = f"\n    needs {row['needs']}" if row["needs"] else ""
    return f"{row['name']}{own}\n    {row['about']}{needs}"


def _command(preset: "Preset", name: str) -> str:
    """The command line a preset stands for, an option a line."""
    lines = [f"# {preset.about}", *(f"# needs {need}" for need in preset.needs)]
    words = [f"energylens ingest {name}.lens"]
    for field, value in preset.given.items():
        flag = _FLAGS.get(field, "--" + field.replace("_", "-"))
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{field}")
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"{flag} {shlex.quote(str(one))}" for one in values]
    return "\n".join([*lines, " \\\n    ".join(words)])
