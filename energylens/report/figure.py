"""A figure of a report: what it shows, what it was made of, and how it is drawn."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from energylens.report.asked import Asked

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

Draw = Callable[["Drawing"], None]
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a8a00")
"""Told apart by people who see no red or no green (Okabe and Ito 2008), the yellow darkened."""
_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a dollar in a token is a dollar
    "svg.fonttype": "none",  # the reader's fonts have scripts that ours have not
    "svg.hashsalt": "energy-lens",  # the same figure is the same file
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}
_DPI = 150


@dataclass(frozen=True)
class Figure:
    """One figure; `name` is that of its files."""

    name: str
    title: str
    caption: str
    n_texts: int
    """Texts that its numbers come from."""
    asked: tuple[Asked, ...]
    inches: tuple[float, float]
    draw: Draw


@dataclass(frozen=True)
class Missing:
    """A figure that a run has nothing for, and why."""

    name: str
    title: str
    reason: str


def drawn(figure: Figure) -> tuple[str, bytes]:
    """The figure as SVG and as PNG."""
    with _styled():
        from matplotlib.figure import Figure as Drawing

        drawing = Drawing(figsize=figure.inches, layout="constrained")
        figure.draw(drawing)
        svg, png = io.StringIO(), io.BytesIO()
        drawing.savefig(svg, format="svg", metadata={"Date": None, "Title": figure.title})
        drawing.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
    return svg.getvalue(), png.getvalue()


@contextmanager
def _styled() -> Iterator[None]:
    import matplotlib

    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The PNG's font may lack a script; the SVG leaves its letters to the reader.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
    logger.setLevel(level)
