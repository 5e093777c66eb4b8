"""Tables of a report, and the features whose contexts it shows."""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from energylens.queries.card import FeatureCard, feature_card
from energylens.queries.features import feature
from energylens.report.asked import Asked, ask_query, ask_sql
from energylens.report.figures.run import Source

_N_CONTEXTS = 3
_RUN = """
SELECT run_id, model, texts, n_texts, n_tokens, n_ctx, prepend_bos, created
FROM runs
WHERE run_id = $run
"""


@dataclass(frozen=True)
class Table:
    """A table with its heading; `name` is that of its files."""

    name: str
    title: str
    caption: str
    asked: Asked


@dataclass(frozen=True)
class Specialist:
    """The best feature of a category with its contexts."""

    category: str
    score: int
    n_in: int
    q: float
    card: FeatureCard


def tables(source: Source) -> Iterator[Table]:
    """Those that have rows."""
    reader, run = source.reader, source.run
    candidates = (
        Table(
            "categories",
            "Texts by category",
            "How many texts, how long, and how hard for the model; energies in nats a token.",
            ask_query(reader, "category_summary", run=run),
        ),
        Table(
            "specialist_categories",
            "Always, sometimes and never",
            "In how many SAEs each category has a specialist: always is in all of them, never in "
            "none.",
            ask_query(reader, "specialist_categories", run=run),
        ),
        Table(
            "efas_by_layer",
            "EFAS by SAE",
            "Features tested and found with the lens gradient. Untrained models have such "
            "features too.",
            ask_query(reader, "efas_by_layer", run=run),
        ),
    )
    yield from (table for table in candidates if not table.asked.rows.is_empty())


def specialists(source: Source) -> Iterator[Specialist]:
    """The best feature of each category over all SAEs that is found, with contexts."""
    best = ask_query(source.reader, "specialist_matrix", run=source.run).rows
    if best.is_empty():
        return
    found = best.filter("is_found").sort("score", "auroc", descending=True)
    for row in found.unique("category", maintain_order=True).sort("category").iter_rows(named=True):
        record = feature(source.reader, source.run, row["sae_id"], row["feature_id"])
        card = feature_card(source.reader, record, _N_CONTEXTS)
        yield Specialist(row["category"], row["score"], row["n_in"], row["q"], card)


def about(source: Source) -> pl.DataFrame:
    """The run's own row."""
    return ask_sql(source.reader, _RUN, run=source.run).rows
