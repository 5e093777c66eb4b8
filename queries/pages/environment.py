"""How a page is made: templates that escape whatever comes from data."""

from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

from energylens.queries.display import (
    number,
    show_probability,
    visible,
    visible_lines,
    visible_token,
)
from energylens.queries.shading import shade_rgb

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def environment(*packages: str) -> "Environment":
    """The templates of `energylens.queries` and of other packages; a name that they do not know is
    an error, never nothing."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=ChoiceLoader([PackageLoader(one) for one in ("energylens.queries", *packages)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "probability": lambda value: show_probability(value).strip(),
        "cell": _cell,
        "lines": visible_lines,
        "visible": visible,
        "token": visible_token,
        "shade": _shade,
    }
    return made


def _cell(value: object) -> str:
    """Any value of a table; whole numbers may be names of features, and stay as they are."""
    if value is None or isinstance(value, bool | float | Decimal):
        return number(value)
    return visible(str(value))


def _shade(share: float) -> str:
    """Style of a token that is so strong: paper and ink."""
    paper, ink = ("#{:02x}{:02x}{:02x}".format(*rgb) for rgb in shade_rgb(share))
    return f"background:{paper};color:{ink}"
