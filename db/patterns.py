"""What features fire on, as patterns of tokens that are learned and scored without a model."""

import pyarrow as pa

from energylens.db.table import FEATURE, RUN, SAE, Column, Table

FEATURE_PATTERNS = Table(
    "feature_patterns",
    "A short pattern of tokens for each feature, learned on half of the texts and scored on the "
    "other half: its strong tokens (at least a quarter of the largest activation) against tokens "
    "it is silent on, as many of each. Weak activations count as neither.",
    "index",
    ("run_id", "sae_id", "feature_id"),
    (
        RUN,
        SAE,
        FEATURE,
        Column(
            "slot",
            pa.string(),
            "where the pattern looks: token, class, before, pair (the token before and the token), "
            "after, position or category; NULL where strong tokens are too few to learn from",
        ),
        Column("values", pa.list_(pa.string()), "what stands there, best first; any one suffices"),
        Column("n_strong", pa.int64(), "strong tokens in the texts that it was scored on"),
        Column("n_texts", pa.int64(), "texts of those that have a strong token"),
        Column("recall", pa.float64(), "share of the strong tokens that the pattern finds"),
        Column(
            "false_positive_rate", pa.float64(), "share of the silent tokens that it finds as well"
        ),
        Column(
            "precision",
            pa.float64(),
            "share of strong tokens in what it finds, of as many strong as silent ones",
        ),
        Column("balanced_accuracy", pa.float64(), "(1 + recall - false_positive_rate) / 2"),
        Column("balanced_accuracy_low", pa.float64(), "lower bound at 95 %, texts as units"),
        Column("balanced_accuracy_high", pa.float64(), "upper bound at 95 %, texts as units"),
        Column(
            "p",
            pa.float64(),
            "one-sided p of finding strong tokens no more often than silent ones: Student's t of "
            "the texts' parts; NULL where strong tokens are in fewer texts than 10 of equal size",
        ),
        Column("q", pa.float64(), "Benjamini and Hochberg's q over the features of the SAE"),
        Column(
            "description",
            pa.string(),
            "the pattern in words; NULL where none is found: q is 0.05 or more, "
            "balanced_accuracy is below 0.6, or precision below 0.75",
        ),
    ),
)
LABELS = """
WITH beaten AS (
    SELECT s.run_id, s.sae_id, s.feature_id, s.description, s.method, s.model
    FROM stored.explanation_scores AS s
    JOIN stored.feature_patterns AS p USING (run_id, sae_id, feature_id)
    WHERE s.method = 'explained' AND s.score_type = 'detection' AND s.judge <> ''
        AND p.description IS NOT NULL
    GROUP BY ALL
    HAVING max(s.score) < max(p.balanced_accuracy)
),
said AS NOT MATERIALIZED (
    SELECT e.* FROM stored.explanations AS e ANTI JOIN beaten USING (run_id, sae_id, feature_id)
    UNION ALL
    SELECT e.* EXCLUDE (is_label), b.model IS NULL AND row_number() OVER (
        PARTITION BY e.run_id, e.sae_id, e.feature_id
        ORDER BY b.model IS NULL DESC, e.is_label DESC, e.score DESC NULLS LAST, e.description
    ) = 1
    FROM stored.explanations AS e
    SEMI JOIN beaten USING (run_id, sae_id, feature_id)
    LEFT JOIN beaten AS b USING (run_id, sae_id, feature_id, description, method, model)
)
FROM said
UNION ALL
SELECT p.run_id, p.sae_id, p.feature_id, p.description, 'tokens', '', p.balanced_accuracy,
    'balanced accuracy on other texts', s.feature_id IS NULL
FROM stored.feature_patterns AS p
LEFT JOIN (FROM said WHERE is_label) AS s USING (run_id, sae_id, feature_id)
WHERE p.description IS NOT NULL
"""
"""What `explanations` shows: what is stored, and patterns, which are labels where nobody has said
anything better. What a language model wrote (method explained) is not better where every judge's
detection score of it is below the pattern's balanced accuracy. Labels are chosen anew for the few
features that this is true of; to rank the explanations of all would take long."""
TOKEN_CLASS = r"""CREATE MACRO token_class(piece) AS
CASE
    WHEN regexp_full_match(piece, '\s*[\r\n]+\s*') THEN 'line breaks'
    WHEN regexp_full_match(piece, '\s+') THEN 'white space'
    WHEN regexp_full_match(piece, '\s*\p{Nd}+') THEN 'digits'
    WHEN regexp_full_match(piece, '\s*[(\[{<]+') THEN 'opening brackets'
    WHEN regexp_full_match(piece, '\s*[)\]}>]+') THEN 'closing brackets'
    WHEN regexp_full_match(piece, '\s*["''`“”‘’«»„]+') THEN 'quotation marks'
    WHEN regexp_full_match(piece, '\s*[.!?…]+') THEN 'ends of sentences'
    WHEN regexp_full_match(piece, '\s*[\p{P}\p{S}]+') THEN 'punctuation and symbols'
    WHEN regexp_full_match(piece, '\s*\p{Lu}{2,}') THEN 'capitals'
    WHEN regexp_full_match(piece, '\s+\p{Lu}.*') THEN 'words with a capital'
    WHEN regexp_full_match(piece, '\s+\p{L}.*') THEN 'beginnings of words'
    WHEN regexp_full_match(piece, '\p{L}.*') THEN 'insides of words'
    ELSE 'other tokens'
END"""
"""The class of a token by its piece of text, as patterns and lists of tokens tell it."""
