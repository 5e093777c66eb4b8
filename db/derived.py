"""The derived tables: made from complete shards by the index, and rebuilt at any time."""

import pyarrow as pa

from energylens.db.analyses import ANALYSES
from energylens.db.heads import HEAD_TABLES
from energylens.db.patterns import FEATURE_PATTERNS
from energylens.db.repairs import REPAIR_GAINS, REPAIRS
from energylens.db.table import (
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
LOGIT_DISTRIBUTIONS = Table(
    "logit_distributions",
    "What one unit of a feature adds to the logits of all tokens of the vocabulary, as a "
    "distribution: a feature that promotes a few tokens has a high kurtosis and a positive "
    "skewness, one that suppresses them a negative one.",
    "index",
    ("run_id", "sae_id", "feature_id"),
    (
        RUN,
        SAE,
        FEATURE,
        Column("n_vocab", pa.int32(), "tokens counted: without special and unused ones"),
        float_column("lowest", "lowest logit weight"),
        float_column("highest", "highest logit weight"),
        float_column("mean", "mean over the tokens"),
        float_column("std", "standard deviation over the tokens"),
        float_column("skewness", "third standardised moment; NULL where all are equal"),
        float_column(
            "kurtosis",
            "fourth standardised moment, 3 for a normal distribution; NULL where all are equal",
        ),
        Column("histogram", pa.list_(pa.int32()), "tokens in 40 equal bins from lowest to highest"),
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
FEATURE_MAP = Table(
    "feature_map",
    "Where each feature lies on the map of its SAE: decoder directions of length 1 on the plane of "
    "their first two principal components. Features close by on the map need not be close in the "
    "space: the shares say how much of the variance the plane holds, feature_neighbours says what "
    "is close.",
    "index",
    ("run_id", "sae_id", "feature_id"),
    (
        RUN,
        SAE,
        FEATURE,
        float_column("x", "along the first principal component, from the mean direction"),
        float_column("y", "along the second; of each axis the largest loading is positive"),
        Column("method", pa.string(), "how the map was made: pca"),
        Column("x_share", pa.float64(), "share of the directions' variance along x"),
        Column("y_share", pa.float64(), "share of it along y"),
    ),
)
FEATURE_READERS = Table(
    "feature_readers",
    "The features of the next SAE on the residual stream that read most of what a feature writes "
    "there: by weights alone and the direct path, whatever the blocks between make of it.",
    "index",
    ("run_id", "sae_id", "feature_id", "rank"),
    (
        RUN,
        SAE,
        FEATURE,
        Column("rank", pa.int16(), "0 for the closest"),
        Column("other_sae_id", pa.string(), "the SAE that reads"),
        Column("other_feature_id", pa.int32(), "its feature"),
        float_column(
            "cosine",
            "d e / (|d| |e|): d the decoder direction of the feature, e the encoder direction of "
            "the other",
        ),
    ),
)

INDEX_TABLES = (
    FEATURE_CODES,
    FEATURES,
    FEATURE_TEXTS,
    TOP_CONTEXTS,
    FEATURE_LOGITS,
    LOGIT_DISTRIBUTIONS,
    FEATURE_NEIGHBOURS,
    FEATURE_MAP,
    FEATURE_READERS,
    FEATURE_PATTERNS,
    *ANALYSES,
)
"""Every derived table. An index that was made when they had other columns is stale."""
LATER_TABLES = (*INDEX_TABLES, *HEAD_TABLES, REPAIRS, REPAIR_GAINS)
"""Every table made after the ingest."""
