"""The tables of kept vectors: activations and gradients at a hook, and what is known of the
activations without reading them."""

import pyarrow as pa

from energylens.db.table import HOOK, RUN, TOKEN_INDEX, Column, Table, float_column

ACTIVATIONS = Table(
    "activations",
    "The model's activation vector at a hook, kept when asked for.",
    "shard",
    ("run_id", "hook_name", "token_index"),
    (
        RUN,
        HOOK,
        TOKEN_INDEX,
        Column("activation", pa.list_(pa.float32()), "d_in numbers, as the model computed them"),
    ),
    optional=True,
)
ACTIVATION_NORMS = Table(
    "activation_norms",
    "How long each kept activation is.",
    "shard",
    ("run_id", "hook_name", "token_index"),
    (RUN, HOOK, TOKEN_INDEX, float_column("norm", "Euclidean norm; NULL where the vector is NULL")),
    optional=True,
)
ACTIVATION_SUMS = Table(
    "activation_sums",
    "Sums over kept activations of some contexts that follow each other, special tokens and the "
    "first of a context left out: all rows of a hook add up to its mean and its mean square.",
    "shard",
    ("run_id", "hook_name", "token_index"),
    (
        RUN,
        HOOK,
        Column(
            "token_index",
            pa.int64(),
            "first token of these contexts: context_id * n_ctx",
            "DELTA_BINARY_PACKED",
        ),
        Column("n_tokens", pa.int64(), "tokens summed over"),
        Column("sum_activation", pa.list_(pa.float64()), "d_in sums of the activation's numbers"),
        Column("sum_square", pa.list_(pa.float64()), "d_in sums of their squares"),
    ),
    optional=True,
)
ENERGY_GRADIENTS = Table(
    "energy_gradients",
    "Gradient of the lens energy with respect to the activation at a hook, kept when asked for. "
    "Residual hooks are read where they are; attention and MLP outputs through the residual "
    "stream after their block.",
    "shard",
    ("run_id", "hook_name", "token_index"),
    (
        RUN,
        HOOK,
        TOKEN_INDEX,
        Column("gradient", pa.list_(pa.float32()), "d_in numbers, nats per unit; NULL at the last"),
    ),
    optional=True,
)

KEPT_ACTIVATIONS = (ACTIVATIONS, ACTIVATION_NORMS, ACTIVATION_SUMS)
"""What is written where activations are kept."""
VECTOR_TABLES = (*KEPT_ACTIVATIONS, ENERGY_GRADIENTS)
"""Every table of kept vectors. No index reads them."""
