"""Tokens of a run with an SAE's codes as the store holds them, and a probe of a category on them.

The texts of each category take turns: a probe learns on the first, third, ... and is judged on the
others. No model runs.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from energylens.db.provenance import RunInfo, SaeInfo
from energylens.db.store import Store
from energylens.errors import UsageError
from energylens.stats.logistic import Probe, fit_probe, halves

MOST_TOKENS = 50_000
"""Tokens looked at, both halves together; contexts are drawn by a hash of their number."""
LEAST_TEXTS = 4
"""Texts of the category, and of others, to learn from."""

_TOKENS = """
WITH sized AS (
    SELECT c.context_id, c.text_id,
        sum(c.n_tokens) OVER (ORDER BY hash(c.context_id), c.context_id) AS upto
    FROM contexts AS c
    WHERE c.run_id = $run
)
SELECT t.token_index, s.text_id, x.category
FROM sized AS s
JOIN tokens AS t ON t.run_id = $run AND t.context_id = s.context_id
JOIN texts AS x ON x.run_id = $run AND x.text_id = s.text_id
WHERE s.upto <= $most AND NOT t.is_masked
ORDER BY t.token_index
"""
_CODES = """
SELECT c.token_index, c.feature_id, c.activation
FROM codes AS c
WHERE c.run_id = $run AND c.sae_id = $sae
    AND ($feature IS NULL OR c.feature_id = $feature)
    AND c.token_index IN (SELECT unnest($tokens::BIGINT[]))
"""
_CATEGORIES = """
SELECT DISTINCT x.category FROM texts AS x
WHERE x.run_id = $run AND x.category IS NOT NULL
ORDER BY x.category
"""


@dataclass(frozen=True)
class Tokens:
    """Tokens of a run that are not masked, in token order, of whole contexts."""

    token_index: np.ndarray
    text_id: np.ndarray
    category: np.ndarray
    """Names; None where a text has none."""
    learns: np.ndarray
    """Whether a probe learns on it; it is judged on the others."""


def sampled_tokens(store: Store, run: RunInfo) -> Tokens:
    """All of them, or a sample of contexts where a run is large."""
    asked = {"run": run.run_id, "most": MOST_TOKENS}
    found = store.cursor().sql(_TOKENS, params=asked).to_arrow_table()
    text_id = found["text_id"].to_numpy()
    category = np.array(found["category"].to_pylist(), dtype=object)
    _, kind = np.unique([name or "" for name in category], return_inverse=True)
    learns = halves(kind, text_id) == 0
    return Tokens(found["token_index"].to_numpy(), text_id, category, learns)


def codes_of(
    store: Store, run: RunInfo, sae: SaeInfo, tokens: Tokens, feature_id: int | None = None
) -> sparse.csr_array:
    """[tokens, d_sae]: stored codes, of one feature or of all."""
    asked = {
        "run": run.run_id, "sae": sae.sae_id, "feature": feature_id,
        "tokens": tokens.token_index.tolist(),
    }  # fmt: skip
    found = store.cursor().execute(_CODES, asked).fetchnumpy()
    rows = np.searchsorted(tokens.token_index, np.asarray(found["token_index"]))
    values = np.asarray(found["activation"], dtype=np.float64)
    shape = (len(tokens.token_index), sae.d_sae)
    return sparse.csr_array((values, (rows, np.asarray(found["feature_id"]))), shape=shape)


def category_probe(store: Store, run: RunInfo, sae: SaeInfo, category: str) -> Probe:
    """The probe of a category, learned on half of the texts.

    Raises:
        UsageError: the run has no such category, or too few texts of it or of others.
    """
    rows = store.cursor().execute(_CATEGORIES, {"run": run.run_id}).fetchall()
    known = [name for (name,) in rows]
    if category not in known:
        there = f"it has {', '.join(known)}" if known else "its texts have none"
        raise UsageError(f"the run '{run.run_id}' has no category '{category}'; {there}")
    tokens = sampled_tokens(store, run)
    learns = tokens.learns
    is_own = (tokens.category == category).astype(bool)
    for chosen, of in ((is_own, "it"), (~is_own, "anything else")):
        n = len(np.unique(tokens.text_id[learns & chosen]))
        if n < LEAST_TEXTS:
            raise UsageError(
                f"a probe of '{category}' learns on half of the texts, and there {n} are of {of}; "
                f"it needs {LEAST_TEXTS}, so take a feature for the condition instead"
            )
    codes = codes_of(store, run, sae, tokens)
    return fit_probe(codes[learns], is_own[learns], tokens.text_id[learns])
