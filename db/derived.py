"""The derived tables: made from complete shards by the index, and rebuilt at any time."""

import pyarrow as pa

from db.table import (
    ACTIVATION,
    FEATURE,
    GRADIENTS_OF_CODES,
    RUN,
    SAE,
    TEXT_ID,
    TOKEN_INDEX,
    Column,
    Table,
    float_column,
)

FEATURE_CODES = Table(
    "feature_codes",
    "The table codes in feature order: one feature's activations lie together.",
    "index",
    ("run_id", "sae_id", "feature_id", "token_index"),
    (RUN, SAE, FEATURE, TOKEN_INDEX, ACTIVATION, *GRADIENTS_OF_CODES),
)
_MASK_NOTE = "over tokens that are not masked"
FEATURES = Table(
    "features",
    "One feature and its statistics. Masked tokens (special, first in a context, sinks) are left "
    "out unless a column says otherwise.",
    "index",
    ("run_id", "sae_id", "feature_id"),
    (
        RUN,
        SAE,
        FEATURE,
        Column("n_active", pa.int64(), f"tokens the feature is active on, {_MASK_NOTE}"),
        Column("n_texts", pa.int64(), f"texts it is active in, {_MASK_NOTE}"),
        Column("density", pa.float64(), f"share of tokens it is active on, {_MASK_NOTE}"),
        Column("max_activation", pa.float32(), "strongest activation; NULL where silent"),
        Column("min_activation", pa.float32(), "lowest activation; NULL where silent"),
        Column("mean_activation", pa.float64(), "mean over active tokens; NULL where silent"),
        Column("std_activation", pa.float64(), "standard deviation over active tokens"),
        Column(
            "quantiles",
            pa.list_(pa.float32()),
            "10, 25, 50, 75, 90 and 99 % quantiles of its activations; NULL where silent",
        ),
        Column(
            "histogram",
            pa.list_(pa.int64()),
            "activations in 24 equal bins from min_activation to max_activation; NULL where silent",
        ),
        Column(
            "score",
            pa.float64(),
            "composite: density times mean_activation, the mean activation over all tokens",
        ),
        Column("top_category", pa.string(), "category with the highest mean activation per token"),
        Column(
            "selectivity",
            pa.float64(),
            "1 - H/ln K of the mean activation per token over the K categories: 1 is one category "
            "only, 0 is all alike; NULL where silent or K < 2",
        ),
        Column("n_active_unmasked", pa.int64(), "tokens it is active on, masked ones included"),
        Column("max_activation_unmasked", pa.float32(), "strongest, masked tokens included"),
        Column("decoder_norm", pa.float32(), "norm of the decoder direction; NULL if unknown"),
        Column("is_dense", pa.bool_(), "active on more than 10 % of the tokens"),
    ),
)
FEATURE_TEXTS = Table(
    "feature_texts",
    f"One feature in one text it is active in, {_MASK_NOTE}.",
    "index",
    ("run_id", "sae_id", "feature_id", "text_id"),
    (
        RUN,
        SAE,
        FEATURE,
        TEXT_ID,
        Column("n_active", pa.int32(), "tokens of the text it is active on"),
        Column("mean_activation", pa.float32(), "mean over the text's tokens, active or not"),
        Column("max_activation", pa.float32(), "strongest in the text"),
    ),
)
TOP_CONTEXTS = Table(
    "top_contexts",
    "The contexts in which a feature is strongest, one row for the peak of each context.",
    "index",
    ("run_id", "sae_id", "feature_id", "rank"),
    (
        RUN,
        SAE,
        FEATURE,
        Column("rank", pa.int16(), "0 for the strongest context"),
        Column("context_id", pa.int64(), "the context"),
        Column("token_index", pa.int64(), "the token where the feature peaks"),
        float_column("activation", "activation at the peak"),
    ),
)
FEATURE_LOGITS = Table(
    "feature_logits",
    "The tokens a feature's decoder direction promotes and suppresses most, through the final "
    "norm's gain and the unembedding, the mean over the vocabulary taken off.",
    "index",
    ("run_id", "sae_id", "feature_id", "direction", "rank"),
    (
        RUN,
        SAE,
        FEATURE,
        Column("direction", pa.string(), "'top' for promoted, 'bottom' for suppressed"),
        Column("rank", pa.int16(), "0 for the most extreme"),
        Column("vocab_id", pa.int32(), "the token's number in the vocabulary"),
        Column("token", pa.string(), "the token's piece of text"),
        float_column(
            "logit_weight", "what one unit of activation adds to the logit, up to the norm"
        ),
    ),
)
FEATURE_NEIGHBOURS = Table(
    "feature_neighbours",
    "The features of the same SAE whose decoder directions are closest.",
    "index",
    ("run_id", "sae_id", "feature_id", "rank"),
    (
        RUN,
        SAE,
        FEATURE,
        Column("rank", pa.int16(), "0 for the closest"),
        Column("neighbour_id", pa.int32(), "feature_id of the neighbour"),
        float_column("cosine", "cosine of the two decoder directions"),
    ),
)

_VARIANT = Column(
    "variant",
    pa.string(),
    "what z is compared with: g = -dE/dz of the gradient lens, own, total or calibration; "
    "position is the energy's negative slope along the text, as EFAS was first defined; energy is "
    "the energy itself, and no EFAS",
)
EFAS = Table(
    "efas",
    "How a feature's activation z goes with the negative energy gradient g along its direction. "
    "Not zero means that the read-out is miscalibrated along the feature when it is active "
    "(positive: under-used, negative: over-used); it does not mean that the feature matters. "
    "Over tokens that are not masked and have a next token.",
    "index",
    ("run_id", "sae_id", "variant", "feature_id"),
    (
        RUN,
        SAE,
        _VARIANT,
        FEATURE,
        Column("n_active", pa.int64(), "valid tokens the feature is active on"),
        Column("n_windows", pa.int32(), "contexts it is active in"),
        Column("efas", pa.float64(), "Pearson correlation of z and g; NULL where one is constant"),
        Column("gate", pa.float64(), "correlation of being active with g"),
        Column("dose", pa.float64(), "correlation of z and g over the active tokens"),
        Column(
            "smd", pa.float64(), "mean g where active less mean g where not, in deviations of g"
        ),
        Column(
            "attribution",
            pa.float64(),
            "mean of z g, nats a token: first-order rise of the energy when the feature is ablated",
        ),
        Column("within", pa.float64(), "the correlation with window and position means taken off"),
        Column("within_low", pa.float64(), "lower end of its 95 % interval, clustered by window"),
        Column("within_high", pa.float64(), "upper end"),
        Column("t", pa.float64(), "cluster-robust t of within; NULL where it is not tested"),
        Column("p", pa.float64(), "two-sided p of t, degrees of freedom: windows less one"),
        Column("q", pa.float64(), "Benjamini-Hochberg q over the tested features of the SAE"),
        Column("p_flip", pa.float64(), "p by random sign flips of the window scores"),
        Column("p_familywise", pa.float64(), "the same, adjusted for all features of the SAE"),
        Column("adjusted", pa.float64(), "partial correlation given position, frequency, energy"),
        Column("t_adjusted", pa.float64(), "its cluster-robust t"),
        Column("p_adjusted", pa.float64(), "its p"),
        Column("t_even", pa.float64(), "t from the contexts of even number alone"),
        Column("p_even", pa.float64(), "its p: select on one half ..."),
        Column("t_odd", pa.float64(), "t from the contexts of odd number alone"),
        Column("p_odd", pa.float64(), "... and report on the other"),
    ),
)
EFAS_CATEGORIES = Table(
    "efas_categories",
    "EFAS within the texts of one category.",
    "index",
    ("run_id", "sae_id", "variant", "category", "feature_id"),
    (
        RUN,
        SAE,
        _VARIANT,
        Column("category", pa.string(), "the category"),
        FEATURE,
        Column("n_active", pa.int64(), "valid tokens of the category the feature is active on"),
        Column("n_windows", pa.int32(), "contexts of the category it is active in"),
        Column("efas", pa.float64(), "Pearson correlation of z and g within the category"),
        Column("attribution", pa.float64(), "mean of z g over the category's tokens, nats"),
        Column("t", pa.float64(), "cluster-robust t, window and position means taken off"),
        Column("p", pa.float64(), "its p"),
        Column("q", pa.float64(), "Benjamini-Hochberg q over features and categories of the SAE"),
    ),
)
SPECIALISTS = Table(
    "specialists",
    "A feature against a category of texts. A text is strong for a feature when its mean "
    "activation over real tokens is at least a quarter of the feature's strongest text; the named "
    "query find_specialists takes other thresholds.",
    "index",
    ("run_id", "sae_id", "category", "feature_id"),
    (
        RUN,
        SAE,
        Column("category", pa.string(), "the category"),
        FEATURE,
        Column("n_strong_in", pa.int32(), "strong texts inside the category"),
        Column("n_strong_out", pa.int32(), "strong texts outside it"),
        Column("n_in", pa.int32(), "texts inside"),
        Column("n_out", pa.int32(), "texts outside"),
        Column("score", pa.int32(), "strong texts inside less strong texts outside"),
        Column("rate_in", pa.float64(), "share of the texts inside that are strong"),
        Column("rate_out", pa.float64(), "share of the texts outside that are strong"),
        Column("mean_difference", pa.float64(), "mean of the texts' means inside less outside"),
        Column("auroc", pa.float64(), "chance that a text inside is above one outside, ties half"),
        Column("log_odds", pa.float64(), "log odds ratio of being strong, 0.5 added to each count"),
        Column("p", pa.float64(), "exact permutation p of the score, labels shuffled over texts"),
        Column("q", pa.float64(), "Benjamini-Hochberg q over features and categories of the SAE"),
    ),
)
_UNIT = Column("unit", pa.string(), "token or text: what the features share")
COACTIVATION = Table(
    "coactivation",
    "The partners of a feature with the highest phi, over tokens that are not masked, or over "
    "texts that have such a token.",
    "index",
    ("run_id", "sae_id", "unit", "feature_id", "rank"),
    (
        RUN,
        SAE,
        _UNIT,
        FEATURE,
        Column("rank", pa.int16(), "0 for the highest phi"),
        Column("partner_id", pa.int32(), "feature_id of the partner"),
        Column("n_both", pa.int64(), "units both are active in"),
        Column("n_feature", pa.int64(), "units the feature is active in"),
        Column("n_partner", pa.int64(), "units the partner is active in"),
        Column("n_units", pa.int64(), "units of the run"),
        float_column("jaccard", "n_both over units either is active in; dense features win it"),
        float_column("lift", "n_both over what independent features would share"),
        float_column("pmi", "ln of lift, nats; rare features win it"),
        float_column("phi", "correlation of the two being active"),
        float_column("cosine", "cosine of the two activations over tokens"),
        Column("n_texts_both", pa.int64(), "texts both are active in"),
        Column(
            "p",
            pa.float64(),
            "Fisher's exact one-sided p of n_texts_both; tokens of a text are no independent draws",
        ),
        Column("q", pa.float64(), "Benjamini-Hochberg q over all pairs of the SAE's live features"),
        Column("partner_is_dense", pa.bool_(), "the partner is active on more than 10 % of tokens"),
    ),
)
COACTIVATION_CLUSTERS = Table(
    "coactivation_clusters",
    "Features held together by partners with phi of at least 0.5; dense features are in none.",
    "index",
    ("run_id", "sae_id", "unit", "cluster_id", "feature_id"),
    (
        RUN,
        SAE,
        _UNIT,
        Column("cluster_id", pa.int32(), "0 for the largest cluster"),
        FEATURE,
        Column("n_features", pa.int32(), "features in the cluster"),
    ),
)
FEATURE_MATCHES = Table(
    "feature_matches",
    "The features of a neighbouring SAE (the layer before or after in the same stream, or another "
    "width) whose activations correlate most with a feature's, over tokens that are not masked.",
    "index",
    ("run_id", "sae_id", "other_sae_id", "feature_id", "rank"),
    (
        RUN,
        SAE,
        Column("other_sae_id", pa.string(), "the other SAE"),
        FEATURE,
        Column("rank", pa.int16(), "0 for the highest correlation"),
        Column("other_feature_id", pa.int32(), "feature_id in the other SAE"),
        float_column("correlation", "Pearson correlation of the activations over all tokens"),
        float_column("cosine", "cosine of the decoder directions; NULL where spaces differ"),
    ),
)

INDEX_TABLES = (
    FEATURE_CODES,
    FEATURES,
    FEATURE_TEXTS,
    TOP_CONTEXTS,
    FEATURE_LOGITS,
    FEATURE_NEIGHBOURS,
    EFAS,
    EFAS_CATEGORIES,
    SPECIALISTS,
    COACTIVATION,
    COACTIVATION_CLUSTERS,
    FEATURE_MATCHES,
)
"""Every derived table."""
