"""Write what is shown to a file: the rows of a table, or the screen as a picture."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
from textual.screen import Screen

from energylens.queries.writing import SUFFIXES, Format, whole_file, write_file
from energylens.tui.modals.choose import Choose
from energylens.tui.state import workspace_of
from energylens.tui.widgets.virtual_table import VirtualTable

try:
    import resvg_py
except ImportError:  # pictures are SVG where it is not installed
    resvg_py = None

Way = Format | str
"""A format of rows; or svg or png, of the screen."""


def export(screen: Screen) -> None:
    """Ask how, and write into the directory the program was started in."""
    table = shown_table(screen)
    entries: list[tuple[str, Way]] = []
    if table is not None and table.n_rows:
        entries += [
            (f"{how.value}: all {table.n_rows:,} rows of the table", how) for how in SUFFIXES
        ]
    entries.append(("svg: the screen as a picture", "svg"))
    if resvg_py is not None:
        entries.append(("png: the screen as a picture", "png"))

    def chosen(how: Way | None) -> None:
        if isinstance(how, Format) and table is not None:
            _write_rows(screen, table, how)
        elif how is not None:
            _write_picture(screen, str(how))

    screen.app.push_screen(Choose("Export", entries), chosen)


def shown_table(screen: Screen) -> VirtualTable | None:
    """The table in focus, or else the first one that is shown."""
    if isinstance(screen.focused, VirtualTable):
        return screen.focused
    return next((table for table in screen.query(VirtualTable) if table.display), None)


def free_path(name: str, suffix: str) -> Path:
    """A file in the working directory that is not there yet."""
    number = 1
    while (path := Path(f"{name}-{number}.{suffix}")).exists():
        number += 1
    return path


def _write_rows(screen: Screen, table: VirtualTable, how: Format) -> None:
    source = table.source
    assert source is not None, "there are rows"
    names = [column.name for column in table.columns]
    path = free_path(_name(screen), SUFFIXES[how])

    def write(_: object) -> int:
        rows: pl.DataFrame = source.frame(names)
        write_file(rows, path, how)
        return len(rows)

    workspace_of(screen).tasks.ask(screen, "export", write, _told(screen, path))


def _write_picture(screen: Screen, how: str) -> None:
    path = free_path(_name(screen), how)
    svg = screen.app.export_screenshot()

    def write(_: object) -> int:
        with whole_file(path) as partial:
            partial.write_bytes(svg.encode() if how == "svg" else png(svg))
        return 0

    workspace_of(screen).tasks.ask(screen, "export", write, _told(screen, path))


def png(svg: str) -> bytes:
    """A screenshot as PNG, in a font whose cells are all alike."""
    assert resvg_py is not None, "png is offered where it is installed"
    family = "DejaVu Sans Mono"
    made = resvg_py.svg_to_bytes(svg_string=svg.replace("Fira Code", family), font_family=family)
    return bytes(made)


def _told(screen: Screen, path: Path) -> Callable[[int], None]:
    def tell(n: int) -> None:
        what = f"{n:,} rows" if n else "the screen"
        screen.notify(f"{what} written to {path.resolve()}", markup=False, timeout=10)

    return tell


def _name(screen: Screen) -> str:
    return type(screen).__name__.removesuffix("Screen").lower()
