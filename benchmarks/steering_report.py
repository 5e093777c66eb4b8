"""`docs/findings/steering.md` from the rows of `benchmarks.conditional_steering`.

python -m benchmarks.steering_report        # makes the page again from the stored rows
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.recomputation import interval, table
from energylens.stats.clusters import clustered_mean, jackknife
from energylens.stats.paired import difference_of_means

RESULTS = Path("benchmarks/results/conditional_steering.parquet")
FINDING = Path("docs/findings/steering.md")
POINTS, MILLI = 100, 1000
"""Shares are told in percentage points, nats in thousandths: they are small."""
WAYS = ("everywhere", "feature", "probe", "rule", "random tokens", "noise by probe")
HEAD = """# Steering only where a condition holds

Made by `python -m benchmarks.conditional_steering`, seven minutes of one processor; its short form
(`--short --out FOLDER`: one model, no generation) takes two. Raw results, a row for each text:
`benchmarks/results/conditional_steering.parquet`. What it says: [findings](../findings.md).

Texts of each of the seven bundled kinds are steered towards the next kind (in the order of their
names): the best specialist of that kind in the SAE after block 2 is added with its maximum, at the
tokens where a condition holds that reads the SAE after block 1. What is learned or chosen is so on
one half of the texts, and all numbers are of the other: {n_texts} texts, each steered as its own
kind once and as each of the six others. Figures are means over texts (first over the tokens of a
text, then over the kinds it is steered as), with 95 % intervals over texts; p are of pairs of texts
and not adjusted for their number.

* **everywhere**: every token but BOS, the same vector.
* **feature**: one feature after block 1, with the threshold of the best F1 on the half that is
  learned on (0, a quarter or half of its maximum).
* **probe**: `CATEGORY_probe`, a logistic regression on the stored codes, above 0.5.
* **rule**: a regular expression, written by hand and not tuned (`benchmarks/steering_rules.py`); it
  holds from the token on at which the text so far matches.
* **random tokens**: the null, as many tokens as the probe takes, drawn at random ({n_seeds} seeds).
* **noise by probe**: the control, at the probe's tokens a random direction of the same length
  ({n_seeds} seeds).
"""


def report(rows: pl.DataFrame) -> Iterator[str]:
    """The page, part by part."""
    read = rows.filter(kind="read")
    one = read.filter(way="everywhere")
    seeds = read.filter(way="random tokens")["seed"].n_unique()
    yield HEAD.format(n_texts=one["text_id"].n_unique(), n_seeds=seeds)
    for model in rows["model"].unique(maintain_order=True):
        own = read.filter(model=model)
        yield f"## {model}\n"
        yield "### What the conditions find\n"
        yield FOUND
        yield table(pl.DataFrame([found(own, way) for way in WAYS[1:5]]))
        yield "By kind of text, precision and recall; too few texts for intervals:\n"
        yield table(by_category(own))
        yield "### What steering does\n"
        yield DONE
        yield table(pl.DataFrame([done(own, way) for way in WAYS]))
        yield "### As a share of steering everywhere\n"
        yield KEPT
        yield table(pl.DataFrame([kept(own, way) for way in WAYS[1:]]))
        yield "### Against the null and the control, in pairs of texts\n"
        yield table(pl.DataFrame(list(compared(own))))
        written = rows.filter(model=model, kind="written")
        if len(written):
            yield "### Texts that are written\n"
            yield WRITTEN
            yield table(pl.DataFrame([gone_on(written, way) for way in ("everywhere", "probe")]))


FOUND = """Over tokens but BOS, all kinds pooled: precision, of the tokens taken those in texts of
the kind; recall, of the tokens of the kind those taken. The row of random tokens is chance.
"""
DONE = """On the texts of the kind and on the others: by how many percentage points the
probability of the twenty tokens that the added direction promotes most rises (the aim); KL of the
next token from the unsteered model, and the rise of the text's own energy, both in thousandths of
a nat.
"""
KEPT = """What is kept of the aim in texts of the kind, what is left of the harm (KL) in the
others, and the first over the second: the row of random tokens is what a condition gives that
knows nothing.
"""
WRITTEN = """Twenty tokens after the first eight of every third text, at temperature 1, each as
its own kind and as the next one's: the percentage of texts that come out other than unsteered,
and by how many percentage points the share of promoted tokens rises.
"""


def found(rows: pl.DataFrame, way: str) -> dict[str, object]:
    """Precision and recall over tokens, pooled over kinds, texts as clusters."""
    taken, is_own, text = _tokens(rows.filter(way=way))
    precision = clustered_mean(is_own[taken].astype(float), text[taken])
    recall = clustered_mean(taken[is_own].astype(float), text[is_own])
    return {
        "condition": way, "tokens taken": f"{100 * taken.mean():.1f} %",
        "precision": interval((precision.value, precision.low, precision.high)),
        "recall": interval((recall.value, recall.low, recall.high)),
    }  # fmt: skip


def _tokens(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every token of every row: whether it was taken, whether it is of the kind, its text."""
    n, acted = rows["n_tokens"].to_numpy(), rows["n_acted"].to_numpy()
    taken = np.concatenate([np.arange(size) < some for size, some in zip(n, acted, strict=True)])
    return taken, np.repeat(rows["is_own"].to_numpy(), n), np.repeat(rows["text_id"].to_numpy(), n)


def by_category(rows: pl.DataFrame) -> pl.DataFrame:
    """Precision and recall of each kind."""
    lines = []
    for category in rows["category"].unique().sort():
        line: dict[str, object] = {"kind": category}
        for way in WAYS[1:4]:
            taken, is_own, _ = _tokens(rows.filter(way=way, category=category))
            both = (taken & is_own).sum()
            line[way] = f"{both / max(taken.sum(), 1):.2f}, {both / is_own.sum():.2f}"
        lines.append(line)
    return pl.DataFrame(lines)


def by_text(rows: pl.DataFrame, way: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Figures of each text steered one way, as its own kind and as others."""
    mine = rows.filter(way=way).group_by("text_id", "is_own").agg(
        pl.col("aim", "kl", "energy", "differs").mean()
    ).sort("text_id")  # fmt: skip
    return mine.filter(is_own=True), mine.filter(is_own=False)


def done(rows: pl.DataFrame, way: str) -> dict[str, object]:
    """Means over texts."""
    own, others = by_text(rows, way)
    return {
        "condition": way,
        "aim, own": over_texts(own["aim"], POINTS),
        "aim, others": over_texts(others["aim"], POINTS),
        "KL, own": over_texts(own["kl"], MILLI), "KL, others": over_texts(others["kl"], MILLI),
        "energy, own": over_texts(own["energy"], MILLI),
        "energy, others": over_texts(others["energy"], MILLI),
    }  # fmt: skip


def over_texts(values: pl.Series, unit: int) -> str:
    """The mean of a value a text, in another unit, with its interval."""
    found = clustered_mean(unit * values.to_numpy(), np.arange(len(values)))
    return told((found.value, found.low, found.high))


def told(values: tuple[float, float, float]) -> str:
    """A value with its interval, three digits of it."""
    value, low, high = (f"{one:.2f}" if abs(values[0]) < 10 else f"{one:.0f}" for one in values)
    return f"{value} [{low}, {high}]" if values[1] == values[1] else value


def kept(rows: pl.DataFrame, way: str) -> dict[str, object]:
    """Aim and harm as shares of those of steering everywhere."""
    (own, others), (all_own, all_others) = by_text(rows, way), by_text(rows, "everywhere")
    columns = [own["aim"], all_own["aim"], others["kl"], all_others["kl"]]
    a, b, c, d = (column.to_numpy() for column in columns)

    def shares(chosen: np.ndarray) -> np.ndarray:
        aim = a[chosen].sum() / b[chosen].sum()
        harm = c[chosen].sum() / d[chosen].sum()
        return np.array([aim, harm, aim / harm])

    aim, harm, over = jackknife(shares, _shuffled(len(a)))
    return {
        "condition": way,
        "aim kept, %": told((100 * aim.value, 100 * aim.low, 100 * aim.high)),
        "harm left, %": told((100 * harm.value, 100 * harm.low, 100 * harm.high)),
        "kept / left": told((over.value, over.low, over.high)),
    }


def _shuffled(n: int) -> np.ndarray:
    """Numbers of texts, so that groups of neighbours are of all kinds."""
    return np.random.default_rng(0).permutation(n)


def compared(rows: pl.DataFrame) -> Iterator[dict[str, object]]:
    """Differences in pairs of texts."""
    for way, other in (
        ("probe", "random tokens"), ("feature", "random tokens"), ("rule", "random tokens"),
        ("probe", "noise by probe"), ("probe", "feature"), ("probe", "rule"),
        ("probe", "everywhere"),
    ):  # fmt: skip
        (own, others), (its_own, its_others) = by_text(rows, way), by_text(rows, other)
        line: dict[str, object] = {"pair": f"{way} less {other}"}
        for name, unit, x, y in (
            ("aim, own", POINTS, its_own["aim"], own["aim"]),
            ("KL, others", MILLI, its_others["kl"], others["kl"]),
        ):
            d = difference_of_means(unit * x.to_numpy(), unit * y.to_numpy(), True)
            line[name], line[f"p, {name}"] = told((d.value, d.low, d.high)), f"{d.p:.1g}"
        yield line


def gone_on(rows: pl.DataFrame, way: str) -> dict[str, object]:
    """What was written."""
    own, others = by_text(rows, way)
    return {
        "condition": way,
        "changed, own": over_texts(own["differs"], POINTS),
        "changed, others": over_texts(others["differs"], POINTS),
        "aim, own": over_texts(own["aim"], POINTS),
        "aim, others": over_texts(others["aim"], POINTS),
    }  # fmt: skip


def main() -> None:
    """The command."""
    rows = pl.read_parquet(RESULTS)
    FINDING.write_text("\n".join(report(rows)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
