"""The facts of one feature as text."""

from rich.text import Text

from queries.display import number
from queries.features import Feature


def facts(found: Feature) -> Text:
    """A few lines: how often, how strong, where."""
    text = Text()
    text.append(f"Feature {found.feature_id}", "bold")
    text.append(f"  {found.sae_id}\n", "dim")
    if found.n_active == 0:
        text.append("silent: active on no token that is not masked\n")
        if found.n_active_unmasked:
            text.append(f"active on {found.n_active_unmasked:,} masked tokens\n")
        return text
    for name, value in (
        ("active", f"{found.n_active:,} tokens in {found.n_texts:,} texts"),
        ("density", f"{number(found.density, 4)}{'  dense' if found.is_dense else ''}"),
        ("max", f"{number(found.max_activation)}   mean {number(found.mean_activation)}"),
        ("quantiles", _quantiles(found)),
        ("category", f"{found.top_category or '·'}   selectivity {number(found.selectivity)}"),
    ):
        text.append(f"{name:>10}  ", "dim")
        text.append(f"{value}\n")
    return text


def _quantiles(found: Feature) -> str:
    """The middle and the top; SQL has the rest."""
    if not found.quantiles:
        return "·"
    _, quarter, half, three_quarters, _, top = (number(value, 2) for value in found.quantiles)
    return f"{quarter} {half} {three_quarters} {top} (25 50 75 99 %)"
