"""What features fire on, as short patterns of tokens: learned on half of the texts, scored on the
other half."""

from collections.abc import Iterable

import duckdb
import numpy as np
import polars as pl

from energylens.db.index_files import IndexWriter
from energylens.db.provenance import SaeInfo
from energylens.ingest.index.statements import statement
from energylens.queries.display import visible_token
from energylens.stats.balanced import balanced_accuracy
from energylens.stats.multiple_tests import benjamini_hochberg

SLOTS = ("token", "class", "before", "pair", "after", "position", "category")
"""Where a pattern may look, in the order of `pattern_tokens`."""
MOST_TOKENS = 2_000_000
"""Tokens of the texts that are looked at, both halves together."""
MOST_SILENT = 256
"""Texts whose silent tokens are looked at."""
MOST_VALUES = 8
STRONG = 0.25
"""Share of the largest activation from which on a token is strong."""
LEAST_STRONG = 10
"""Strong tokens to learn from."""
MOST_Q, LEAST_ACCURACY, LEAST_PRECISION = 0.05, 0.6, 0.75
"""Of patterns that are told in words."""


class Patterns:
    """The patterns of one SAE, a range of features at a time; `part` holds their activations."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        self._ranges: list[pl.DataFrame] = []

    def add_part(self) -> None:
        """Learn and score those of the features in `part`."""
        con = self._con
        con.execute(statement("pattern_part"), {"strong": STRONG})
        given = {
            "least_strong": LEAST_STRONG,
            "most_values": MOST_VALUES,
            "least_precision": LEAST_PRECISION,
        }
        con.execute(statement("pattern_learned"), given)
        self._ranges.append(pl.DataFrame(con.sql(statement("pattern_heldout")).to_arrow_table()))

    def write(self, writer: IndexWriter, run_id: str, sae: SaeInfo) -> None:
        """Write `feature_patterns`, in words where a pattern is found."""
        rows = tested(pl.concat(self._ranges))
        words = Words(self._con)
        slots = [SLOTS[number - 1] for number in rows["slot"]]
        values = list(map(words.values, slots, rows["chosen"].to_list()))
        told = [
            description(slot, chosen) if is_found else None
            for slot, chosen, is_found in zip(slots, values, rows["is_found"], strict=True)
        ]
        named = rows.with_columns(
            pl.lit(run_id).alias("run_id"),
            pl.lit(sae.sae_id).alias("sae_id"),
            pl.Series("slot", slots, pl.String),
            pl.Series("values", values, pl.List(pl.String)),
            pl.Series("description", told, pl.String),
        )
        with writer.table("feature_patterns", sae.sae_id) as out:
            out.write(named.to_arrow())


def tested(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of all ranges with their tests; `is_found` says which pattern is one."""
    recall, wrong = (_numbers(rows[name]) for name in ("recall", "false_positive_rate"))
    found = balanced_accuracy(recall, wrong, *(_numbers(rows[x]) for x in ("spread", "n_equal")))
    q = benjamini_hochberg(found.p)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = recall / (recall + wrong)
    columns = {
        "precision": precision, "balanced_accuracy": found.accuracy,
        "balanced_accuracy_low": found.low, "balanced_accuracy_high": found.high,
        "p": found.p, "q": q,
    }  # fmt: skip
    is_good = (found.accuracy >= LEAST_ACCURACY) & (precision >= LEAST_PRECISION)
    is_found = (q < MOST_Q) & is_good
    return rows.with_columns(
        *(pl.Series(name, values).fill_nan(None) for name, values in columns.items()),
        pl.Series("is_found", is_found),
    )


def prepare(con: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """The tables that the patterns of every SAE of a run are learned from."""
    run = {"run_id": run_id}
    con.execute(statement("pattern_vocabulary"), run)
    sizes = {"most_tokens": MOST_TOKENS, "most_silent": MOST_SILENT}
    con.execute(statement("pattern_texts"), sizes)
    con.execute(statement("pattern_tokens"), run)
    con.execute(statement("pattern_totals"))


class Words:
    """Knows what each number of a slot stands for."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        vocabulary = con.execute("FROM pattern_vocabulary").fetchall()
        self._tokens = {vocab_id: token for vocab_id, token, _ in vocabulary}
        self._classes = sorted({name for _, _, name in vocabulary})
        found = con.execute("SELECT DISTINCT category_id, category FROM pattern_texts").fetchall()
        self._categories = dict(found)

    def values(self, slot: str, chosen: Iterable[int]) -> list[str]:
        """What some numbers of a slot stand for."""
        return [self._value(slot, number) for number in chosen]

    def _value(self, slot: str, number: int) -> str:
        match slot:
            case "class":
                return self._classes[number - 1]
            case "pair":
                return self._tokens[number >> 32] + self._tokens[number & 0xFFFFFFFF]
            case "position":
                return f"below {number}"
            case "category":
                return self._categories[number]
            case _:
                return self._tokens[number]


def description(slot: str, values: list[str]) -> str:
    """The pattern in words."""
    pieces = " ".join(visible_token(value) for value in values)
    match slot:
        case "token":
            return pieces
        case "class":
            return " or ".join(values)
        case "before":
            return f"after {pieces}"
        case "pair":
            return f"the end of {pieces}"
        case "after":
            return f"before {pieces}"
        case "position":
            return f"positions {' or '.join(values)}"
        case _:
            return f"texts of {' or '.join(values)}"


def _numbers(values: pl.Series) -> np.ndarray:
    return values.cast(pl.Float64).fill_null(np.nan).to_numpy()
