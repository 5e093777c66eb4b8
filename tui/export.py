"""Write what is shown to a file: rows of a table, a figure, a page, or the screen as a picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from textual.screen import Screen

from energylens.db.store import Session
from energylens.queries.lists import Imported, export_list, import_list
from energylens.queries.names import find_sae
from energylens.queries.pages.feature_pages import write_feature_page
from energylens.queries.writing import SUFFIXES, Format, whole_file, write_file
from energylens.report.one import one_figure
from energylens.report.screen import screen_as_png
from energylens.tui.fuzzy import Entry
from energylens.tui.modals.ask_line import AskLine
from energylens.tui.modals.choose import Choose
from energylens.tui.state import FeaturePlace, workspace_of
from energylens.tui.widgets.virtual_table import VirtualTable


@dataclass(frozen=True)
class Way:
    """Something that can be written, and how."""

    label: str
    """Begins with the kind of file."""
    name: str
    suffix: str
    """Of the file that is offered."""
    what: str
    """As it is told when it is written."""
    write: Callable[[Session, Path], None]
    """In a thread."""


@dataclass(frozen=True)
class ViewFigure:
    """A figure of a report that shows what a view is about."""

    name: str
    """As reports call it."""
    title: str
    run: str
    text: int | None = None
    """The text it is of, where it is of one."""


def figure_ways(screen: Screen, figures: Sequence[ViewFigure]) -> list[Way]:
    """Each figure as SVG and as PNG."""
    store = workspace_of(screen).store

    def write(of: ViewFigure, is_svg: bool, session: Session, path: Path) -> None:
        svg, png = one_figure(session, store.run(of.run).info, of.name, of.text)
        _write_bytes(path, svg.encode() if is_svg else png)

    return [
        Way(f"{kind}: figure, {of.title}", of.name, kind, "the figure",
            partial(write, of, kind == "svg"))
        for of in figures
        for kind in ("svg", "png")
    ]  # fmt: skip


def page_way(screen: Screen, place: FeaturePlace) -> Way:
    """The page of a feature, as `energylens page` writes it."""
    number, sae_id = place.feature_id, place.selection.sae.sae_id
    run = workspace_of(screen).store.run(place.selection.run).info

    def write(session: Session, path: Path) -> None:
        write_feature_page(session, run, find_sae(run, sae_id), number, path)

    return Way(f"html: page of feature {number}", f"feature-{number}", "html", "the page", write)


def list_way(screen: Screen, run: str) -> Way:
    """What is known of the features of a run, as `energylens export list` writes it."""
    store = workspace_of(screen).store

    def write(_: Session, path: Path) -> None:
        export_list(store, run, path)

    label = "json: stars, notes, explanations and ratings, to share"
    return Way(label, "list", "json", "the list", write)


def take_in_list(screen: Screen) -> None:
    """Ask for such a file, and take it in."""
    workspace = workspace_of(screen)

    def told(done: Imported) -> None:
        screen.notify(done.said, timeout=10)
        workspace.noted()

    def named(line: str | None) -> None:
        if line is not None:
            store, path = workspace.store, line.strip()
            workspace.tasks.ask(
                screen, "list", lambda _: import_list(store, Path(path).expanduser()), told
            )

    hint = (
        "what `energylens export list` or e wrote in another copy of a run; the later changes stay"
    )
    title = "Take in a list of stars, notes, explanations and ratings"
    screen.app.push_screen(AskLine(title, "list.json", hint), named)


def export(screen: Screen, own: Sequence[Way] = (), last: Sequence[Way] = ()) -> None:
    """Ask what of a screen is to be written, and where; `own` comes after the rows of a table."""
    ways = [*_row_ways(screen), *own, *_picture_ways(screen), *last]

    def chosen(way: Way | None) -> None:
        if way is not None:
            _ask_where(screen, way)

    screen.app.push_screen(Choose("Export", [Entry(way.label, way) for way in ways]), chosen)


def _ask_where(screen: Screen, way: Way) -> None:
    def named(line: str | None) -> None:
        if line is None:
            return
        try:
            path = Path(line.strip()).expanduser()
            is_there = path.exists() and not path.is_dir()
        except (OSError, RuntimeError, ValueError) as error:  # no such home, no name of a file
            screen.notify(f"cannot write '{line}': {error}", severity="error")
            return
        if is_there:
            _ask_whether(screen, way, path)
        else:
            _write(screen, way, path)

    hint = "the file to write, from where the program was started; enter writes, esc does not"
    offered = str(_free_path(way.name, way.suffix))
    screen.app.push_screen(AskLine(way.label, offered, hint), named)


def _ask_whether(screen: Screen, way: Way, path: Path) -> None:
    """Whether a file may be written over."""

    def answered(may: bool | None) -> None:
        if may:
            _write(screen, way, path)
        else:
            screen.notify(f"'{path}' is as it was")

    entries = [Entry("leave it as it is", False), Entry("write over it", True)]
    screen.app.push_screen(Choose(f"'{path}' is there already", entries), answered)


def _write(screen: Screen, way: Way, path: Path) -> None:
    def written(_: None) -> None:
        screen.notify(f"{way.what} written to {path.resolve()}", timeout=10)

    tasks = workspace_of(screen).tasks
    tasks.ask(screen, "export", lambda session: way.write(session, path), written)


def _row_ways(screen: Screen) -> list[Way]:
    """The rows of the table in focus, in every format."""
    table = shown_table(screen)
    if table is None or table.source is None or not table.n_rows:
        return []
    source, n_rows = table.source, table.n_rows
    all_columns = [column.name for column in table.all_columns]
    shown = [column.name for column in table.columns]

    def write(how: Format, _: Session, path: Path) -> None:
        write_file(source.frame(all_columns).select(shown), path, how)

    return [
        Way(f"{how.value}: all {n_rows:,} rows of the table", _name(screen), suffix,
            f"{n_rows:,} rows", partial(write, how))
        for how, suffix in SUFFIXES.items()
    ]  # fmt: skip


def shown_table(screen: Screen) -> VirtualTable | None:
    """The table in focus, or else the first one that is shown."""
    if isinstance(screen.focused, VirtualTable):
        return screen.focused
    return next((table for table in screen.query(VirtualTable) if table.display), None)


def _picture_ways(screen: Screen) -> list[Way]:
    """The screen as it is now."""
    svg, name = screen.app.export_screenshot(), _name(screen)

    def write(is_svg: bool, _: Session, path: Path) -> None:
        _write_bytes(path, svg.encode() if is_svg else screen_as_png(svg))

    return [
        Way(f"{kind}: the screen as a picture", name, kind, "the screen",
            partial(write, kind == "svg"))
        for kind in ("svg", "png")
    ]  # fmt: skip


def _free_path(name: str, suffix: str) -> Path:
    """A file in the working directory that is not there yet."""
    number = 1
    while (path := Path(f"{name}-{number}.{suffix}")).exists():
        number += 1
    return path


def _write_bytes(path: Path, content: bytes) -> None:
    with whole_file(path) as whole:
        whole.write_bytes(content)


def _name(screen: Screen) -> str:
    return type(screen).__name__.removesuffix("Screen").lower()
