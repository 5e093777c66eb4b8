"""What is known of one feature, read from the store and put into words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import polars as pl
from rich.console import Group
from rich.style import Style
from rich.table import Table
from rich.text import Text

from energylens.db.notes import Note
from energylens.db.ratings import SCALES, Rating
from energylens.db.store import Session
from energylens.queries.coactivation import coactivation_partners, feature_evolution
from energylens.queries.contexts import top_activations
from energylens.queries.display import (
    counted,
    number,
    show_probability,
    visible,
    visible_token,
)
from energylens.queries.efas import feature_efas
from energylens.queries.explanations import feature_explanations, scored_explanations
from energylens.queries.features import (
    Feature,
    feature,
    feature_categories,
    feature_histogram,
    logit_distribution,
    promoted_tokens,
    similar_features,
)
from energylens.queries.frames import FeatureColumns
from energylens.queries.maps import linked_features
from energylens.queries.masks import Unmasked
from energylens.queries.meanings import with_meanings
from energylens.queries.notes import note_of
from energylens.queries.ratings import numbers_of, rating_agreement, ratings_of
from energylens.queries.routing import feature_anchors
from energylens.tui.state import FeaturePlace
from energylens.tui.widgets.histogram import fitted

_N_EXPLANATIONS = 3
_N_NEIGHBOURS = 3
_LINES, _WIDTH = 3, 40
"""Of the histogram of logits."""
_N_STRONGEST = 100
"""Tokens looked at to say on which ones a feature is strongest."""


@dataclass(frozen=True)
class Shown:
    """Everything that is shown of a feature but its contexts."""

    record: Feature
    note: Note
    explanations: pl.DataFrame
    scores: pl.DataFrame
    """Of its explanations, as `scored_explanations` tells them."""
    ratings: list[Rating]
    agreement: pl.DataFrame
    """Of those who rate, as `rating_agreement` tells it; empty with fewer than two."""
    histogram: tuple[list[int], float, float]
    """Counts of equal bins, with the lowest and the highest activation."""
    strongest: list[str]
    """The tokens it is strongest on, one entry for each time."""
    categories: pl.DataFrame
    promoted: pl.DataFrame
    logits: pl.DataFrame
    """What it adds to the logits of all tokens, in one row; empty where that is not known."""
    similar: pl.DataFrame
    partners: pl.DataFrame
    efas: pl.DataFrame
    evolution: pl.DataFrame
    anchors: pl.DataFrame
    links: pl.DataFrame
    """To features of other SAEs, each with a label."""


def read(session: Session, place: FeaturePlace, unmasked: Unmasked) -> Shown:
    """All of it; `unmasked` tokens count in the histogram and among the strongest.

    Raises:
        QueryError: the index has no such feature.
    """
    run, sae, wanted = place.selection.run, place.selection.sae.sae_id, place.feature_id
    record = feature(session, run, sae, wanted)
    strongest = top_activations(session, run, sae, wanted, _N_STRONGEST, **unmasked.asked)
    ratings = ratings_of(session, run, sae, wanted)
    of = FeatureColumns(run, sae)
    return Shown(
        record=record,
        note=note_of(session, run, sae, wanted),
        explanations=feature_explanations(session, run, sae, wanted),
        scores=scored_explanations(session, run, sae, wanted),
        ratings=ratings,
        agreement=_agreement(session, place, [one.rater for one in ratings]),
        histogram=_histogram(session, place, unmasked) if unmasked else histogram_of(record),
        strongest=strongest["token"].to_list(),
        categories=feature_categories(session, run, sae, wanted),
        promoted=promoted_tokens(session, run, sae, wanted),
        logits=logit_distribution(session, run, sae, wanted),
        similar=_near(session, similar_features(session, run, sae, wanted), of, "neighbour_id"),
        partners=_near(session, coactivation_partners(session, run, sae, wanted), of, "partner_id"),
        efas=feature_efas(session, run, sae, wanted),
        evolution=feature_evolution(session, run, sae, wanted),
        anchors=feature_anchors(session, run, sae, wanted),
        links=_links(session, run, linked_features(session, run, sae, wanted)),
    )


def _links(session: Session, run: str, rows: pl.DataFrame) -> pl.DataFrame:
    of_other = rows.with_columns(sae_id=pl.col("other_sae_id"))
    return with_meanings(session, of_other, FeatureColumns(run, None), "other_feature_id")


def _near(session: Session, rows: pl.DataFrame, of: FeatureColumns, column: str) -> pl.DataFrame:
    """The first of some neighbours, with what they stand for."""
    return with_meanings(session, rows.head(_N_NEIGHBOURS), of, column)


def histogram_of(record: Feature) -> tuple[list[int], float, float]:
    """The stored histogram: counts of equal bins, the lowest and the highest activation."""
    return record.histogram or [], record.min_activation or 0.0, record.max_activation or 0.0


def _histogram(
    session: Session, place: FeaturePlace, unmasked: Unmasked
) -> tuple[list[int], float, float]:
    run, sae = place.selection.run, place.selection.sae.sae_id
    rows = feature_histogram(session, run, sae, place.feature_id, **unmasked.asked)
    if rows.is_empty():
        return [], 0.0, 0.0
    return rows["n"].to_list(), float(rows["bin_low"][0]), float(rows["bin_high"][-1])


def _agreement(session: Session, place: FeaturePlace, raters: list[str]) -> pl.DataFrame:
    """How far those who rate this feature agree, in the sum over all they have both rated."""
    if len(raters) < 2:
        return pl.DataFrame()
    rows = rating_agreement(session, place.selection.run, place.selection.sae.sae_id)
    return rows.filter(
        pl.col("scale") == "total",
        pl.col("rater").is_in(raters),
        pl.col("other_rater").is_in(raters),
    )


def said_of(shown: Shown) -> list[tuple[str, Text]]:
    """What people and language models say of a feature, with names, in the order of reading."""
    said: list[tuple[str, Text]] = []
    for row in shown.explanations.head(_N_EXPLANATIONS).iter_rows(named=True):
        said.append(("said to be", Text(visible(row["description"])).append(_origin(row), "dim")))
        own = shown.scores.filter(
            pl.col("description") == row["description"],
            pl.col("method") == row["method"],
            pl.col("model") == row["model"],
        )
        said += [("scored", Text(_score(score), "dim")) for score in own.iter_rows(named=True)]
    if shown.note.note:
        author = f"  {visible(shown.note.author)}" if shown.note.author else ""
        said.append(("note", Text(visible(shown.note.note)).append(author, "dim")))
    said += [("rated", _rating(one)) for one in shown.ratings]
    said += [("agreement", Text(_agreed(row))) for row in shown.agreement.iter_rows(named=True)]
    return said


def facts(found: Feature, is_starred: bool = False, said: Sequence[tuple[str, Text]] = ()) -> Group:
    """A few lines: what is `said` of it, how often it is active, how strong, where."""
    title = Text(f"Feature {found.feature_id}", "bold")
    title.append(" ★" if is_starred else "")
    title.append(f"  {visible(found.sae_id)}", Style(bold=False, dim=True))
    if found.n_active == 0:
        silent = "silent: active on no token that is not masked"
        if found.n_active_unmasked:
            silent += f"\nactive on {found.n_active_unmasked:,} masked tokens (M shows them)"
        return Group(title, _beside(said), Text(silent))
    category = visible(found.top_category or "·")
    figures = (
        ("active", f"{found.n_active:,} tokens in {found.n_texts:,} texts"),
        ("density", f"{number(found.density, 4)}{'  dense' if found.is_dense else ''}"),
        ("max", f"{number(found.max_activation)}   mean {number(found.mean_activation)}"),
        ("quantiles", _quantiles(found)),
        ("category", f"{category}   selectivity {number(found.selectivity)}"),
    )
    return Group(title, _beside([*said, *((name, Text(value)) for name, value in figures)]), "")


def _beside(named: Sequence[tuple[str, Text]]) -> Table:
    """Values beside their names; a long one goes on under itself."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=10, justify="right", style="dim")
    table.add_column(overflow="fold")
    for name, value in named:
        table.add_row(name, value)
    return table


def _origin(explanation: dict) -> str:
    """Who says so, and how well it was scored."""
    score = explanation["score"]
    said = [explanation["model"], "" if score is None else f"score {number(score)}"]
    return "".join(f"  {visible(part)}" for part in said if part)


def _score(score: dict) -> str:
    """One score of an explanation, with its bounds, who judged, and on what."""
    text = f"{visible(score['score_type'])} {number(score['score'])}"
    if score["score_low"] is not None:
        text += f" ({number(score['score_low'])} to {number(score['score_high'])})"
    if score["judge"]:
        text += f" by {visible(score['judge'])}"
    if score["n_active"] is not None:
        text += f", {score['n_active']} active and {score['n_silent']} silent contexts"
        text += f" of {score['n_texts']} texts"
    return text


def _rating(rating: Rating) -> Text:
    """The numbers of one rater in the order of the scales, and their sum."""
    numbers = numbers_of(rating)
    text = Text(f"{visible(rating.rater)}  {' '.join(map(str, numbers))}")
    return text.append(f"  sum {sum(numbers)} of {sum(SCALES.values())}", "dim")


def _agreed(row: dict) -> str:
    """How far two raters agree over the SAE."""
    difference = number(row["mean_absolute_difference"], 2)
    text = (
        f"{visible(row['rater'])} and {visible(row['other_rater'])}: sums differ by "
        f"{difference} over {counted(row['n_features'], 'feature')}"
    )
    kappa = row["weighted_kappa"]
    return text if kappa is None else f"{text}, weighted kappa {number(kappa)}"


def _quantiles(found: Feature) -> str:
    """The middle and the top; SQL has the rest."""
    if not found.quantiles:
        return "·"
    _, quarter, half, three_quarters, _, top = (number(value, 2) for value in found.quantiles)
    return f"{quarter} {half} {three_quarters} {top} (25 50 75 99 %)"


def more_facts(shown: Shown) -> Group:
    """What it reads and writes, what it goes with, and its EFAS."""
    lists = (
        ("strong on", _strongest(shown.strongest)),
        ("similar", _related(shown.similar, "neighbour_id", "cosine")),
        ("with", _related(shown.partners, "partner_id", "phi")),
        ("layers", _evolution(shown.evolution) if len(shown.evolution) > 1 else ""),
        ("anchors", _anchors(shown.anchors)),
    )
    text = Text()
    if len(shown.efas):
        text.append(
            "\nEFAS within texts, its t and q: of the read-out's calibration, not of importance; "
            "untrained models have it too (position, energy: no gradients)\n",
            "dim",
        )
    for row in shown.efas.iter_rows(named=True):
        text.append(f"{row['variant']:>12}  ", "dim")
        t, q = number(row["t"], 2), show_probability(row["q"])
        text.append(f"{number(row['within']):>7}  t {t:>6}  q {q}\n")
    text.append("\nmean activation by category\n", "dim")
    text.append(_category_bars(shown.categories))
    return Group(
        _beside([(name, Text(said)) for name, said in lists if said]),
        logit_table(shown.promoted),
        text,
        logit_histogram(shown.logits),
    )


def logit_table(promoted: pl.DataFrame) -> Table | Text:
    """The tokens it promotes and suppresses most side by side: what one unit of activation adds to
    the logit of each, with a bar as long."""
    if promoted.is_empty():
        return Text("promoted and suppressed tokens: not computed", "dim")
    top = max(abs(weight) for weight in promoted["logit_weight"].to_list()) or 1.0
    table = Table.grid(padding=(0, 1, 0, 0))
    for _ in range(2):
        table.add_column(width=10, no_wrap=True, overflow="ellipsis")
        table.add_column(justify="right", width=6, no_wrap=True)
        table.add_column(width=5, style="dim")
    table.add_row(Text("promotes", "dim"), "", "", Text("suppresses", "dim"), "", "")
    sides = [
        promoted.filter(pl.col("direction") == direction).select("token", "logit_weight").rows()
        for direction in ("top", "bottom")
    ]
    for pair in zip_longest(*sides):
        cells = [cell for entry in pair for cell in _logit(entry, top)]
        table.add_row(*cells)
    return table


def logit_histogram(logits: pl.DataFrame) -> Text:
    """What one unit of activation adds to the logits of all tokens."""
    if logits.is_empty():
        return Text()
    row = logits.row(0, named=True)
    moments = [f"{name} {number(row[name], 2)}" for name in ("std", "skewness", "kurtosis")]
    said = f"\nlogits of all {row['n_vocab']:,} tokens: {', '.join(moments)}\n"
    text = Text(said, "dim")
    drawn = fitted(row["histogram"], row["lowest"], row["highest"], _LINES, _WIDTH, "tokens")
    return text.append(drawn, Style(dim=False))


def _logit(entry: tuple[str, float] | None, top: float) -> tuple[Text, str, str]:
    if entry is None:
        return Text(""), "", ""
    token, weight = entry
    return Text(visible_token(token)), number(weight), "█" * max(1, round(abs(weight) / top * 5))


def _strongest(tokens: list[str]) -> str:
    """The commonest of the tokens it is strongest on."""
    counted = Counter(tokens).most_common(4)
    total = f" of its top {len(tokens)}"
    return "  ".join(
        f"{visible_token(token)} {n}{total if place == 0 else ''}"
        for place, (token, n) in enumerate(counted)
    )


def _related(rows: pl.DataFrame, name: str, value: str) -> str:
    listed = (
        f"{r[name]} ({number(r[value], 2)})  {visible(r['label'] or '')}".rstrip()
        for r in rows.iter_rows(named=True)
    )
    return "\n".join(listed) or "none"


def _evolution(rows: pl.DataFrame) -> str:
    """The feature's best matches, layer by layer."""
    return " > ".join(
        "here" if row["step"] == 0 else f"L{row['layer']} {row['at_feature']}"
        for row in rows.iter_rows(named=True)
    )


def _anchors(rows: pl.DataFrame) -> str:
    """The choices of routers it goes with, by phi."""
    return "  ".join(
        f"L{row['layer']} {row['choice_id']} ({number(row['phi'], 2)})"
        for row in rows.head(4).iter_rows(named=True)
    )


def _category_bars(rows: pl.DataFrame) -> str:
    top = max((r for r in rows["mean_activation"].to_list() if r), default=0.0)
    lines = []
    for row in rows.iter_rows(named=True):
        share = row["mean_activation"] / top if top else 0.0
        bar, category = "█" * round(share * 12), visible(row["category"] or "·")
        lines.append(
            f"{category[:15]:>15} {bar:<12} {number(row['mean_activation'])} "
            f" {row['n_active_texts']} of {row['n_texts']}"
        )
    return "\n".join(lines)
