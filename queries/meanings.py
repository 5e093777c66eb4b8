"""What features stand for, beside lists of them, and the features that the words of a filter lead
to."""

from collections.abc import Iterable, Sequence

import polars as pl

from energylens.db.store import Reader
from energylens.queries.contexts import search_texts
from energylens.queries.display import visible_token
from energylens.queries.explanations import feature_meanings, search_features
from energylens.queries.filters import bare_words
from energylens.queries.frames import FeatureColumns, Led

MEANING = "stands_for"
"""The column of rows of anybody's SQL that tells what the feature of a row stands for."""
LEAST_SCORE = 0.1
"""Of `search_features`, from which on words are taken to lead to a feature: two of its twenty
strongest tokens, a promoted token among the first five, its category, or what is said of it."""
_MOST = 1 << 40
NOTHING = pl.DataFrame(
    schema={"word": pl.String, "sae_id": pl.String, "feature_id": pl.Int64, "score": pl.Float64}
)
"""What no words lead to."""


def told(label: str | None, tokens: Sequence[str] | None) -> str | None:
    """What a list shows of a feature: its label, else the tokens it is strong on; None where
    neither is known."""
    if label is not None or not tokens:
        return label
    return "on " + " ".join(map(visible_token, tokens))


def meanings(
    reader: Reader, run: str, sae: str, features: Iterable[int]
) -> dict[int, tuple[str | None, bool]]:
    """What each feature is said to stand for or is strong on, and whether it is starred."""
    wanted = sorted(set(features))
    if not wanted:
        return {}
    rows = feature_meanings(reader, run, sae, wanted)
    return {
        feature: (told(label, tokens), is_starred)
        for feature, label, is_starred, tokens in rows.iter_rows()
    }


def with_meanings(
    reader: Reader,
    rows: pl.DataFrame,
    of: FeatureColumns,
    column: str = "feature_id",
    into: str = "label",
) -> pl.DataFrame:
    """The rows with a column that tells what the feature of another column stands for; NULL where
    the run has no such feature."""
    infos = (info for info in reader.infos if info.run_id == of.run)
    there = {sae.sae_id: sae.d_sae for info in infos for sae in info.saes}
    saes = rows["sae_id"] if of.sae is None else pl.Series([of.sae] * len(rows), dtype=pl.String)
    pairs = list(zip(saes.to_list(), rows[column].to_list(), strict=True))
    by_sae: dict[str, set[int]] = {}
    for sae, feature in pairs:
        if feature is not None and 0 <= feature < there.get(sae, 0):
            by_sae.setdefault(sae, set()).add(feature)
    known = {sae: meanings(reader, of.run, sae, ids) for sae, ids in by_sae.items()}
    said = [known.get(sae, {}).get(feature, (None, False))[0] for sae, feature in pairs]
    return rows.with_columns(pl.Series(into, said, pl.String))


def meant_by(reader: Reader, run: str, sae: str | None, filter_text: str) -> pl.DataFrame:
    """The features that each bare word of a filter leads to, with how surely; None takes all SAEs
    of the run."""
    found = [
        search_features(reader, run, word, sae, _MOST, LEAST_SCORE).select(
            pl.lit(word).alias("word"), "sae_id", pl.col("feature_id").cast(pl.Int64), "score"
        )
        for word in bare_words(filter_text)
    ]
    return pl.concat(found) if found else NOTHING


def led_by(
    reader: Reader, filter_text: str, of: FeatureColumns | None, texts_of: str | None
) -> Led | None:
    """What the words of a filter lead to in a list: features where it has columns of them, else
    the texts of a run that hold them."""
    if of is not None:
        found = meant_by(reader, of.run, of.sae, filter_text).rename({"feature_id": "number"})
        return Led(found, of.columns, of.sae is None)
    if texts_of is None:
        return None
    held = [
        search_texts(reader, texts_of, word, _MOST).select(
            pl.lit(word).alias("word"), pl.col("text_id").cast(pl.Int64).alias("number")
        )
        for word in bare_words(filter_text)
    ]
    return Led(pl.concat(held), ("text_id",)) if held else None


def features_in(
    reader: Reader, rows: pl.DataFrame, statement: str, run: str | None
) -> FeatureColumns | None:
    """Where rows of a statement hold features of one run, which is `run` unless they name it: their
    column `sae_id` or the statement tells the SAE."""
    kinds = rows.schema
    if not kinds.get("feature_id", pl.Null()).is_integer():
        return None
    runs = rows["run_id"].unique().to_list() if "run_id" in kinds else [run]
    infos = [info for info in reader.infos if runs == [info.run_id]]
    if not infos:
        return None
    if kinds.get("sae_id") == pl.String:
        return FeatureColumns(infos[0].run_id, None)
    named = [sae.sae_id for sae in infos[0].saes if f"'{sae.sae_id}'" in statement]
    return FeatureColumns(infos[0].run_id, named[0]) if len(named) == 1 else None


def told_rows(reader: Reader, rows: pl.DataFrame, statement: str, run: str | None) -> pl.DataFrame:
    """Rows of a statement with what their features stand for beside their numbers."""
    of = features_in(reader, rows, statement, run)
    if of is None or MEANING in rows.columns:
        return rows
    told = with_meanings(reader, rows, of, into=MEANING)[MEANING]
    return rows.clone().insert_column(rows.get_column_index("feature_id") + 1, told)
