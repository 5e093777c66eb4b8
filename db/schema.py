"""Every table of a store: its columns, what each means, its key, and how Parquet encodes it.

The documentation strings here are the only ones: they become `COMMENT ON` in the catalogue and
`energylens info --schema`.
"""

import pyarrow as pa

from energylens.db.derived import LATER_TABLES
from energylens.db.explanations import EXPLANATIONS
from energylens.db.graphs import GRAPH_TABLES
from energylens.db.notes import NOTES
from energylens.db.ratings import RATINGS
from energylens.db.scores import EXPLANATION_SCORES
from energylens.db.table import (
    ACTIVATION,
    FEATURE,
    GRADIENTS_OF_CODES,
    HOOK,
    RUN,
    SAE,
    TEXT_ID,
    TOKEN_INDEX,
    Column,
    Table,
    float_column,
)
from energylens.db.vectors import VECTOR_TABLES

RUNS = Table(
    "runs",
    "One run: a model over a corpus, with everything needed to repeat it.",
    "run",
    ("run_id",),
    (
        RUN,
        Column("kind", pa.string(), "corpus, prompt, intervention or imported"),
        Column("created", pa.string(), "when the run was begun, ISO 8601 in UTC"),
        Column("model", pa.string(), "the model as it was asked for: directory, hub name, builtin"),
        Column("model_class", pa.string(), "class of the Hugging Face model"),
        Column("model_revision", pa.string(), "commit on the hub; NULL for a local model"),
        Column("model_sha256", pa.string(), "SHA-256 over the weights"),
        Column("tokenizer_sha256", pa.string(), "SHA-256 over the tokenizer"),
        Column("texts", pa.string(), "the texts as they were asked for"),
        Column("texts_sha256", pa.string(), "SHA-256 over texts, categories and sources, in order"),
        Column(
            "texts_revision",
            pa.string(),
            "commit of the hub's dataset, or the state that `datasets` knows a local one by; NULL "
            "for other texts",
        ),
        Column("n_texts", pa.int64(), "texts in the corpus"),
        Column("n_contexts", pa.int64(), "contexts in the corpus"),
        Column("n_tokens", pa.int64(), "tokens of all contexts, special ones counted"),
        Column("n_ctx", pa.int64(), "most tokens in a context"),
        Column("prepend_bos", pa.bool_(), "each context begins with the BOS token"),
        Column("n_layers", pa.int64(), "blocks of the model"),
        Column("d_model", pa.int64(), "width of the residual stream"),
        Column("d_vocab", pa.int64(), "entries of the model's vocabulary"),
        Column("dtype", pa.string(), "number format of the forward pass"),
        Column("loader", pa.string(), "how the model was loaded and run"),
        Column(
            "quantisation",
            pa.string(),
            "formats the weights had on disk before they were made numbers again; NULL where they "
            "were never quantised",
        ),
        Column("hooks", pa.list_(pa.string()), "hooks read in this run"),
        Column(
            "hook_median_norms",
            pa.list_(pa.float64()),
            "median norm at each hook over text tokens of the gate's sample",
        ),
        Column("lens_layers", pa.list_(pa.int64()), "layers with rows in energies"),
        Column(
            "efas",
            pa.list_(pa.string()),
            "gradients that codes are compared with: lens, own, total, calibration",
        ),
        Column("keep", pa.list_(pa.string()), "kept beside the codes: activations, gradients"),
        Column("n_shards", pa.int64(), "shards the whole run has"),
        Column("versions", pa.string(), "versions of the programs that made the run, as JSON"),
        Column(
            "notices",
            pa.list_(pa.string()),
            "what was said of the run when it was begun: what of the model could not be stored, "
            "or was decided for it",
        ),
        Column(
            "additions",
            pa.list_(pa.string()),
            "what was added to the run after its ingest, in order: a kind and a hook or SAE",
        ),
        Column(
            "base_run",
            pa.string(),
            "the run whose model and SAEs a prompt or intervention used; NULL for others",
        ),
        Column(
            "settings",
            pa.string(),
            "what was asked of a prompt or intervention, as JSON; NULL for others",
        ),
    ),
)
SAES = Table(
    "saes",
    "One sparse autoencoder of a run, with what the gate measured on the run's own texts.",
    "run",
    ("run_id", "sae_id"),
    (
        RUN,
        Column("sae_id", pa.string(), "names the SAE within the store"),
        Column("source", pa.string(), "the SAE as it was asked for"),
        Column("release", pa.string(), "release in the sae-lens registry; NULL for a local SAE"),
        Column("hook_name", pa.string(), HOOK.doc),
        Column(
            "hook_head_index",
            pa.int64(),
            "the only attention head of the hook it reads and writes; NULL where it takes all",
        ),
        Column("layer", pa.int64(), "the block it reads at; -1 where the hook is in no block"),
        Column("stream", pa.string(), "residual, attention, mlp or other"),
        Column("architecture", pa.string(), "as sae-lens names it: standard, topk, jumprelu, ..."),
        Column("d_in", pa.int64(), "width of its input"),
        Column("d_sae", pa.int64(), "number of its features"),
        Column("weights_sha256", pa.string(), "SHA-256 over its weights"),
        Column("normalize_activations", pa.string(), "how it scales its input; none where not"),
        Column("centring", pa.bool_(), "each vector's mean is taken off before encoding"),
        Column("folded", pa.bool_(), "decoder norms are folded into the activations"),
        Column("neuronpedia_id", pa.string(), "model/source in Neuronpedia; NULL where unknown"),
        Column("declared_l0", pa.float64(), "L0 its maker states; NULL where not stated"),
        Column("l0", pa.float64(), "mean non-zero features a token, measured"),
        Column("fvu", pa.float64(), "fraction of variance unexplained, measured"),
        Column("explained_variance", pa.float64(), "1 - fvu, variance about the mean"),
        Column(
            "ce_loss_score",
            pa.float64(),
            "CE loss recovered: (zero-ablated - with SAE) / (zero-ablated - clean); NULL where "
            "zeros in its place cost the model less than 0.01 nats a token: a share of nothing",
        ),
        Column("n_dead", pa.int64(), "features silent on the gate's sample"),
        Column("n_dense", pa.int64(), "features active on more than 10 % of the gate's sample"),
        Column("gate_tokens", pa.int64(), "tokens the gate measured on"),
        Column(
            "gate",
            pa.string(),
            "passed, and why there is no CE score where there is none; or overridden, and why it "
            "would have been refused",
        ),
    ),
)
TEXTS = Table(
    "texts",
    "One text of the corpus. A text lies in the shard of its first context.",
    "shard",
    ("run_id", "text_id"),
    (
        RUN,
        TEXT_ID,
        Column("category", pa.string(), "what kind of text it is; NULL where nobody said"),
        Column("source", pa.string(), "where the text comes from; NULL where nobody said"),
        Column("text", pa.string(), "the text itself"),
        Column("sha256", pa.string(), "SHA-256 of the text's UTF-8 bytes, in hexadecimal"),
        Column("n_tokens", pa.int32(), "tokens of the text, special tokens not counted"),
    ),
)
CONTEXTS = Table(
    "contexts",
    "One piece of a text as the model read it: at most n_ctx tokens.",
    "shard",
    ("run_id", "context_id"),
    (
        RUN,
        Column(
            "context_id", pa.int64(), "the context's number in the corpus", "DELTA_BINARY_PACKED"
        ),
        TEXT_ID,
        Column("part", pa.int32(), "0 for the first context of its text, then 1, 2, ..."),
        Column("n_tokens", pa.int32(), "tokens in the context, special tokens counted"),
    ),
)
TOKENS = Table(
    "tokens",
    "One token of a context, padding never. Energies here are those of the model's output.",
    "shard",
    ("run_id", "token_index"),
    (
        RUN,
        TOKEN_INDEX,
        Column("context_id", pa.int64(), "the context the token stands in", "DELTA_BINARY_PACKED"),
        Column("pos", pa.int32(), "position in the context, from 0", "DELTA_BINARY_PACKED"),
        Column("vocab_id", pa.int32(), "the token's number in the tokenizer's vocabulary"),
        Column("token", pa.string(), "the token's piece of text; bytes that are no UTF-8 as \\xNN"),
        Column("token_bytes", pa.binary(), "the token's piece, byte for byte"),
        Column("char_start", pa.int32(), "first character of the piece in the text; NULL if none"),
        Column("char_end", pa.int32(), "one past its last character; NULL if none"),
        Column("is_special", pa.bool_(), "BOS, EOS or another special token, not text"),
        float_column(
            "norm_ratio",
            "largest norm over the run's hooks, each divided by that hook's median norm; "
            "sinks stand out; NULL where the run kept no hook",
        ),
        float_column(
            "energy",
            "surprisal of the next token, -ln p, in nats; NULL where there is no next token",
        ),
        float_column("entropy", "entropy of the next-token distribution, in nats"),
        float_column("confidence", "probability of the likeliest next token"),
        Column(
            "rank",
            pa.int32(),
            "tokens likelier than the true next one; 0 is best; NULL where there is no next token",
        ),
        float_column(
            "log_frequency",
            "ln of how often the whole corpus has this vocab_id; NULL for special tokens",
        ),
    ),
)
CODES = Table(
    "codes",
    "One non-zero feature activation, in token order. Negative ones are kept, padding never is.",
    "shard",
    ("run_id", "sae_id", "token_index", "feature_id"),
    (
        RUN,
        SAE,
        TOKEN_INDEX,
        Column("feature_id", pa.int32(), FEATURE.doc, "DELTA_BINARY_PACKED"),
        ACTIVATION,
        *GRADIENTS_OF_CODES,
    ),
    optional=True,
)
ENERGIES = Table(
    "energies",
    "What the logit lens reads at a token after a layer: final norm and unembedding applied "
    "to the residual stream. Layer -1 is the embedding; the last layer is the model's output.",
    "shard",
    ("run_id", "token_index", "layer"),
    (
        RUN,
        TOKEN_INDEX,
        Column("layer", pa.int16(), "the block whose output is read; -1 before the first block"),
        float_column(
            "energy", "surprisal of the next token under the lens, in nats; NULL at the last"
        ),
        float_column("entropy", "entropy of the lens distribution, in nats"),
        Column("rank", pa.int32(), "tokens likelier than the true next one; NULL where none"),
        Column("top_vocab_id", pa.int32(), "the likeliest next token's number in the vocabulary"),
    ),
    optional=True,
)
_PANEL = (RUN, SAE, Column("variant", pa.string(), "lens, own, total or calibration"))
_VALID = "over tokens that are not masked and have a next token"
GRADIENT_CONTEXTS = Table(
    "gradient_contexts",
    "The mean energy gradient of a context where an SAE writes, for EFAS.",
    "shard",
    ("run_id", "sae_id", "variant", "context_id"),
    (
        *_PANEL,
        Column(
            "context_id", pa.int64(), "the context's number in the corpus", "DELTA_BINARY_PACKED"
        ),
        Column("n_tokens", pa.int32(), "tokens the mean is over: not masked, with a next token"),
        Column(
            "sum_gradient",
            pa.list_(pa.float64()),
            "sum of dE/dh, d_model numbers, nats per unit; in units of the SAE's output",
        ),
    ),
    optional=True,
)
GRADIENT_POSITIONS = Table(
    "gradient_positions",
    "The summed energy gradient at one position of the contexts of a shard, for EFAS.",
    "shard",
    ("run_id", "sae_id", "variant", "shard", "half", "pos"),
    (
        *_PANEL,
        Column("shard", pa.int32(), "the shard summed over"),
        Column("half", pa.int16(), "context_id modulo 2; sums of both are what is used"),
        Column("pos", pa.int32(), "position in the context"),
        Column("n_tokens", pa.int32(), f"tokens summed {_VALID}"),
        Column("sum_gradient", pa.list_(pa.float64()), "sum of dE/dh, d_model numbers"),
    ),
    optional=True,
)
GRADIENT_SUMS = Table(
    "gradient_sums",
    f"Sums of a feature's g = -dE/dz {_VALID}, whether the feature is active or not, for EFAS.",
    "shard",
    ("run_id", "sae_id", "variant", "shard", "category", "feature_id"),
    (
        *_PANEL,
        Column("shard", pa.int32(), "the shard summed over"),
        Column("category", pa.string(), "the category summed over; NULL for texts without one"),
        FEATURE,
        Column("n_tokens", pa.int32(), "tokens summed over"),
        Column("sum_g", pa.float64(), "sum of g"),
        Column("sum_gg", pa.float64(), "sum of g squared"),
        Column("sum_pos_g", pa.float64(), "sum of pos times g"),
        Column("sum_frequency_g", pa.float64(), "sum of log_frequency times g"),
        Column("sum_energy_g", pa.float64(), "sum of energy (of the output) times g"),
    ),
    optional=True,
)
ROUTING = Table(
    "routing",
    "One choice of a router for a token: an expert of a mixture, an anchor of a MesaNet.",
    "shard",
    ("run_id", "router", "layer", "token_index", "rank"),
    (
        RUN,
        Column("router", pa.string(), "the router's place in the model"),
        Column("layer", pa.int16(), "the block the router stands in"),
        TOKEN_INDEX,
        Column("rank", pa.int16(), "0 for the strongest choice"),
        Column("choice_id", pa.int16(), "number of the chosen expert or anchor"),
        float_column("weight", "the weight the model gave to the choice"),
    ),
    optional=True,
)
ROUTING_TOKENS = Table(
    "routing_tokens",
    "What one router did at a token, over all of its choices.",
    "shard",
    ("run_id", "router", "layer", "token_index"),
    (
        RUN,
        Column("router", pa.string(), "the router's place in the model"),
        Column("layer", pa.int16(), "the block the router stands in"),
        TOKEN_INDEX,
        Column(
            "logits",
            pa.list_(pa.float32()),
            "router logits, one for each choice, up to a number of the token's own; where scores "
            "are not their softmax (sigmoid gates), logarithms of the scores: the softmax of these "
            "is each choice's share",
        ),
        float_column("entropy", "entropy of the shares of all choices, in nats"),
        float_column("margin", "the largest share less the second"),
        float_column(
            "seen_energy", "the energy the router was given, in nats; NULL where it sees none"
        ),
        float_column("energy_in", "lens energy before the block, in nats; NULL where not computed"),
        float_column("energy_out", "lens energy after the block, in nats; NULL where not computed"),
        float_column("write_norm", "norm of what the choices wrote; NULL where not computed"),
        Column("solver_steps", pa.int16(), "steps of the mixer's solver; NULL where it has none"),
    ),
    optional=True,
)
RUN_TABLES = (RUNS, SAES)
SHARD_TABLES = (
    *(TEXTS, CONTEXTS, TOKENS, CODES, ENERGIES),
    *VECTOR_TABLES,
    *(GRADIENT_CONTEXTS, GRADIENT_POSITIONS, GRADIENT_SUMS, ROUTING, ROUTING_TOKENS),
)
BESIDE_TABLES = (NOTES, EXPLANATIONS, EXPLANATION_SCORES, RATINGS)
"""What people and language models say of features, in files beside the shards."""
TABLES = {
    table.name: table
    for table in (*RUN_TABLES, *SHARD_TABLES, *LATER_TABLES, *BESIDE_TABLES, *GRAPH_TABLES)
}
"""Every table of a store, by name."""

SINK_NORM_RATIO = 10.0
"""A token whose norm_ratio is above this is taken for a sink and masked (PEERS: 10 x median)."""
