"""How a page is made: templates that escape whatever comes from data."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from energylens.queries.display import number, show_probability, visible, visible_token
from energylens.queries.shading import shade_rgb


@cache
def environment() -> Environment:
    """The templates of `energylens.queries`; a name they do not know is an error, never nothing."""
    made = Environment(
        loader=PackageLoader("energylens.queries", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "probability": lambda value: show_probability(value).strip(),
        "visible": visible,
        "token": visible_token,
        "shade": _shade,
    }
    return made


def _shade(share: float) -> str:
    """Style of a token that is so strong: paper and ink."""
    paper, ink = ("#{:02x}{:02x}{:02x}".format(*rgb) for rgb in shade_rgb(share))
    return f"background:{paper};color:{ink}"
