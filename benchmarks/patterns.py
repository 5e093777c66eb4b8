"""How well features are told by their tokens, on texts that the patterns were not learned on.

    python -m benchmarks.patterns STORE [--out docs/findings/patterns.md]

STORE is the demo's: `energylens demo`. Figures are the index's own, of the held-out half of texts.
"""

import argparse
from pathlib import Path

import polars as pl

import energylens
from energylens.queries.face import OpenStore
from energylens.queries.writing import Format, as_text

BY_SAE = """
SELECT f.sae_id, count(*) AS active, count(p.p) AS tested,
    count(*) FILTER (p.q < 0.05 AND p.balanced_accuracy > 0.5) AS above_chance,
    count(p.description) AS told,
    median(p.balanced_accuracy) FILTER (p.p IS NOT NULL) AS median_balanced_accuracy,
    median(p.recall) FILTER (p.description IS NOT NULL) AS median_recall_told,
    median(p.precision) FILTER (p.description IS NOT NULL) AS median_precision_told
FROM features AS f
LEFT JOIN feature_patterns AS p USING (run_id, sae_id, feature_id)
WHERE f.n_active > 0
GROUP BY ALL
ORDER BY f.sae_id
"""
BY_SLOT = """
SELECT slot, count(*) AS tested, count(description) AS told,
    median(balanced_accuracy) AS median_balanced_accuracy
FROM feature_patterns
WHERE p IS NOT NULL
GROUP BY slot
ORDER BY told DESC, slot
"""
PICKED = """
SELECT p.sae_id, p.feature_id, {words} AS pattern, p.recall, p.false_positive_rate,
    p.precision, p.balanced_accuracy, p.balanced_accuracy_low AS low,
    p.balanced_accuracy_high AS high, p.n_strong, p.n_texts
FROM feature_patterns AS p
WHERE p.p IS NOT NULL AND p.n_strong >= 30 AND {which}
ORDER BY hash(p.sae_id || p.feature_id)
LIMIT 10
"""
FOUND = PICKED.format(words="p.description", which="p.description IS NOT NULL")
FAILED = PICKED.format(
    words="p.slot || ': ' || array_to_string(p.values, ' ')", which="p.description IS NULL"
)

PAGE = """# Patterns of tokens on texts they were not learned on

Made by `python -m benchmarks.patterns STORE` from the demo's store (`energylens demo`). What a
pattern is and how it is scored: [explanations](../explanations.md). `tested` features have strong
tokens in texts enough; `above_chance` have q below .05; `told` have a balanced accuracy of .6 and a
precision of .75 as well, and only these are shown as a label. Control characters and pieces of a
character are written out.

{by_sae}

By where the pattern looks:

{by_slot}

## Ten that are told
Drawn by a hash of their names from the told features with at least 30 strong held-out tokens.

{found}

## Ten that are not
Drawn alike from those tested without success; the pattern is the best that was learned.

{failed}
"""


def page(store: OpenStore) -> str:
    """The page in Markdown."""
    asked = {"by_sae": BY_SAE, "by_slot": BY_SLOT, "found": FOUND, "failed": FAILED}
    return PAGE.format(**{name: _table(store.sql(sql)) for name, sql in asked.items()})


def _table(rows: pl.DataFrame) -> str:
    figures = rows.with_columns(pl.selectors.float().round(3))
    return as_text(figures, Format.markdown).strip()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/findings/patterns.md"))
    asked = parser.parse_args()
    with energylens.open(asked.store) as store:
        asked.out.write_text(page(store), encoding="utf-8")


if __name__ == "__main__":
    main()
