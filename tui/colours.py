"""Shades for magnitudes in a terminal."""

from rich.color import Color
from rich.style import Style
from textual.app import App

from energylens.queries.shading import shade_rgb


def shade(share: float) -> Style:
    """Background for a share from 0 to 1 of the strongest value, with text that stays legible."""
    paper, ink = shade_rgb(share)
    return Style(color=Color.from_rgb(*ink), bgcolor=Color.from_rgb(*paper))


def needs_digits(app: App[object]) -> bool:
    """Whether the terminal has too few colours to tell shades apart."""
    is_poor = app.console.color_system == "standard" and not app.is_headless
    return app.no_color or is_poor
