"""The tables of heads: what attention does over a run, and what its weights say."""

import pyarrow as pa

from energylens.db.table import RUN, TOKEN_INDEX, Column, Table, float_column

_LAYER = Column("layer", pa.int16(), "the block the head stands in")
_HEAD = Column("head", pa.int16(), "the head's number in its block")
_REQUEST = "Made on request by `energylens heads`."
_UNIFORM = "the same for a head that looks at all it may see alike"
HEADS = Table(
    "heads",
    "One head. The scores on texts are means over destinations: every token of the run but the "
    "first of its context. The scores of weights are sums of eigenvalues over sums of their "
    f"absolute values; docs/circuits.md has the formulas. {_REQUEST}",
    "index",
    ("run_id", "layer", "head"),
    (
        RUN,
        _LAYER,
        _HEAD,
        Column(
            "kind",
            pa.string(),
            "attention; or mesa, an analogue: attention is then the share that the absolute weight "
            "of a value has in what the head puts out",
        ),
        Column("n_tokens", pa.int64(), "destinations"),
        Column("previous_token", pa.float64(), "attention to the token before"),
        Column("previous_token_uniform", pa.float64(), _UNIFORM),
        Column(
            "duplicate_token",
            pa.float64(),
            "attention to earlier places of the same token, where there are any; NULL if nowhere",
        ),
        Column("duplicate_token_uniform", pa.float64(), _UNIFORM),
        Column("n_duplicate", pa.int64(), "destinations whose token stands before them too"),
        Column(
            "induction",
            pa.float64(),
            "attention to what came after earlier places of the same token, where there are any; "
            "NULL if nowhere",
        ),
        Column("induction_uniform", pa.float64(), _UNIFORM),
        Column("n_induction", pa.int64(), "destinations with such a source"),
        Column("self_token", pa.float64(), "attention to the destination itself"),
        Column("self_token_uniform", pa.float64(), _UNIFORM),
        Column("first_token", pa.float64(), "attention to the first token of the context"),
        Column("first_token_uniform", pa.float64(), _UNIFORM),
        Column("entropy", pa.float64(), "mean entropy of the attention of a destination, nats"),
        Column("entropy_uniform", pa.float64(), _UNIFORM),
        Column("distance", pa.float64(), "tokens looked back, mean over all attention"),
        Column("distance_uniform", pa.float64(), _UNIFORM),
        Column("distance_variance", pa.float64(), "its variance over all attention"),
        Column("output_norm", pa.float64(), "mean norm of what the head adds to the stream"),
        Column(
            "copying",
            pa.float64(),
            "of W_E W_V W_O W_U: above 0, what is attended to makes itself likelier",
        ),
        Column("copying_random_025", pa.float64(), "2.5 % quantile of random heads of its shape"),
        Column("copying_random_975", pa.float64(), "97.5 % quantile of random heads"),
        Column(
            "matching",
            pa.float64(),
            "of W_E W_Q W_K^T W_E^T: above 0, tokens attend to tokens like themselves",
        ),
        Column("matching_random_025", pa.float64(), "2.5 % quantile of random heads of its shape"),
        Column("matching_random_975", pa.float64(), "97.5 % quantile of random heads"),
    ),
)
HEAD_PAIRS = Table(
    "head_pairs",
    "The strongest pair of destination and source in a context, of the contexts where a head's "
    f"pair is strongest. {_REQUEST}",
    "index",
    ("run_id", "layer", "head", "rank"),
    (
        RUN,
        _LAYER,
        _HEAD,
        Column("rank", pa.int16(), "0 for the strongest"),
        TOKEN_INDEX,
        Column("source_index", pa.int64(), "token_index of what is looked at"),
        float_column("attention", "of the destination token_index to the source"),
        float_column(
            "strength", "attention times the norm of what the source's value adds to the stream"
        ),
    ),
)
SKIP_TRIGRAMS = Table(
    "skip_trigrams",
    "What a head's weights say of tokens alone: at the destination it attends to the source, which "
    "makes `out` likelier. The largest products, sources and destinations among the run's tokens. "
    f"{_REQUEST}",
    "index",
    ("run_id", "layer", "head", "rank"),
    (
        RUN,
        _LAYER,
        _HEAD,
        Column("rank", pa.int16(), "0 for the strongest"),
        Column("source_id", pa.int32(), "vocabulary number of the source"),
        Column("source", pa.string(), "its piece of text"),
        Column("destination_id", pa.int32(), "vocabulary number of the destination"),
        Column("destination", pa.string(), "its piece of text"),
        Column("out_id", pa.int32(), "vocabulary number of what becomes likelier"),
        Column("out_token", pa.string(), "its piece of text"),
        float_column("score", "attention score of the pair above that of the mean source"),
        float_column("logit", "what the source adds to the logit of out, up to the norm"),
        float_column("strength", "score times logit"),
    ),
)
BIGRAMS = Table(
    "bigrams",
    "The direct path from embedding to unembedding: the next tokens it raises most, for every "
    f"token of the run, beside how often they do come next there. {_REQUEST}",
    "index",
    ("run_id", "vocab_id", "rank"),
    (
        RUN,
        Column("vocab_id", pa.int32(), "vocabulary number of the token"),
        Column("rank", pa.int16(), "0 for what is raised most"),
        Column("token", pa.string(), "the token's piece of text"),
        Column("next_id", pa.int32(), "vocabulary number of the next token"),
        Column("next_token", pa.string(), "its piece of text"),
        float_column("logit", "what the direct path adds to its logit, up to the norm"),
        Column("n_pair", pa.int64(), "how often the two follow each other in the run's texts"),
        Column("n_token", pa.int64(), "how often the token is followed by any"),
    ),
)
HEAD_COMPOSITIONS = Table(
    "head_compositions",
    "How much of what a head writes a head of a later layer reads: |A B| / (|A| |B|) in Frobenius "
    f"norms. {_REQUEST}",
    "index",
    ("run_id", "how", "layer", "head", "to_layer", "to_head"),
    (
        RUN,
        Column("how", pa.string(), "Q, K or V: by which input the later head reads"),
        Column("layer", pa.int16(), "block of the head that writes"),
        Column("head", pa.int16(), "its number"),
        Column("to_layer", pa.int16(), "block of the head that reads"),
        Column("to_head", pa.int16(), "its number"),
        float_column("composition", "the ratio, less what random matrices of these shapes have"),
        float_column("random", "the mean ratio of random matrices, which was taken off"),
    ),
)

HEAD_TABLES = (HEADS, HEAD_PAIRS, SKIP_TRIGRAMS, BIGRAMS, HEAD_COMPOSITIONS)
"""Every table of heads. They are measured on request and never lie in the index."""
