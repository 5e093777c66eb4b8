"""Every table of a store: its columns, what each means, its key, and how Parquet encodes it.

The documentation strings here are the only ones: they become `COMMENT ON` in the catalogue and
`energylens info --schema`.
"""

from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

Place = Literal["run", "shard", "index"]
"""Where rows of a table lie: in run.json, in every shard (truth), or in the index (derived)."""


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, what it means, and its Parquet encoding."""

    name: str
    type: pa.DataType
    doc: str
    encoding: str | None = None
    """A Parquet encoding; None lets the writer use a dictionary."""


@dataclass(frozen=True)
class Table:
    """One table: what a row is, which columns identify it, and where its files lie."""

    name: str
    doc: str
    place: Place
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    optional: bool = field(default=False)
    """True where a shard may lack the table because nobody asked for it."""

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema of the table's files."""
        return pa.schema([pa.field(c.name, c.type) for c in self.columns])


_RUN = Column("run_id", pa.string(), "the run these rows belong to")
_SAE = Column("sae_id", pa.string(), "the SAE, as the table saes names it")
_HOOK = Column("hook_name", pa.string(), "place in the model, as TransformerLens spells it")
_TOKEN_INDEX = Column(
    "token_index",
    pa.int64(),
    "the token's number in the run: context_id * n_ctx + pos",
    "DELTA_BINARY_PACKED",
)
_FEATURE = Column("feature_id", pa.int32(), "the feature's number in its SAE")
_ACTIVATION = Column(
    "activation", pa.float32(), "the feature's activation; never 0", "BYTE_STREAM_SPLIT"
)
_TEXT_ID = Column("text_id", pa.int64(), "the text's number in the corpus", "DELTA_BINARY_PACKED")


def _float(name: str, doc: str) -> Column:
    return Column(name, pa.float32(), doc, "BYTE_STREAM_SPLIT")

RUNS = Table(
    "runs",
    "One run: a model over a corpus, with everything needed to repeat it.",
    "run",
    ("run_id",),
    (
        _RUN,
        Column("kind", pa.string(), "corpus, prompt, intervention or imported"),
        Column("created", pa.string(), "when the run was begun, ISO 8601 in UTC"),
        Column("model", pa.string(), "the model as it was asked for: directory, hub name, builtin"),
        Column("model_class", pa.string(), "class of the Hugging Face model"),
        Column("model_revision", pa.string(), "commit on the hub; NULL for a local model"),
        Column("model_sha256", pa.string(), "SHA-256 over the weights"),
        Column("tokenizer_sha256", pa.string(), "SHA-256 over the tokenizer"),
        Column("texts", pa.string(), "the texts as they were asked for"),
        Column("texts_sha256", pa.string(), "SHA-256 over texts, categories and sources, in order"),
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
        Column("hooks", pa.list_(pa.string()), "hooks read in this run"),
        Column(
            "hook_median_norms",
            pa.list_(pa.float64()),
            "median norm at each hook over text tokens of the gate's sample",
        ),
        Column("lens_layers", pa.list_(pa.int64()), "layers with rows in energies"),
        Column("keep", pa.list_(pa.string()), "kept beside the codes: activations, gradients"),
        Column("n_shards", pa.int64(), "shards the whole run has"),
        Column("versions", pa.string(), "versions of the programs that made the run, as JSON"),
    ),
)
SAES = Table(
    "saes",
    "One sparse autoencoder of a run, with what the gate measured on the run's own texts.",
    "run",
    ("run_id", "sae_id"),
    (
        _RUN,
        Column("sae_id", pa.string(), "names the SAE within the store"),
        Column("source", pa.string(), "the SAE as it was asked for"),
        Column("release", pa.string(), "release in the sae-lens registry; NULL for a local SAE"),
        Column("hook_name", pa.string(), _HOOK.doc),
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
            "CE loss recovered: (zero-ablated - with SAE) / (zero-ablated - clean)",
        ),
        Column("n_dead", pa.int64(), "features silent on the gate's sample"),
        Column("n_dense", pa.int64(), "features active on more than 10 % of the gate's sample"),
        Column("gate_tokens", pa.int64(), "tokens the gate measured on"),
        Column("gate", pa.string(), "passed; or overridden, and why it would have been refused"),
    ),
)
TEXTS = Table(
    "texts",
    "One text of the corpus. A text lies in the shard of its first context.",
    "shard",
    ("run_id", "text_id"),
    (
        _RUN,
        _TEXT_ID,
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
        _RUN,
        Column(
            "context_id", pa.int64(), "the context's number in the corpus", "DELTA_BINARY_PACKED"
        ),
        _TEXT_ID,
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
        _RUN,
        _TOKEN_INDEX,
        Column(
            "context_id", pa.int64(), "the context the token stands in", "DELTA_BINARY_PACKED"
        ),
        Column("pos", pa.int32(), "position in the context, from 0", "DELTA_BINARY_PACKED"),
        Column("vocab_id", pa.int32(), "the token's number in the tokenizer's vocabulary"),
        Column(
            "token", pa.string(), "the token's piece of text; bytes that are no UTF-8 as \\xNN"
        ),
        Column("token_bytes", pa.binary(), "the token's piece, byte for byte"),
        Column("char_start", pa.int32(), "first character of the piece in the text; NULL if none"),
        Column("char_end", pa.int32(), "one past its last character; NULL if none"),
        Column("is_special", pa.bool_(), "BOS, EOS or another special token, not text"),
        _float(
            "norm_ratio",
            "largest norm over the run's hooks, each divided by that hook's median norm; "
            "sinks stand out; NULL where the run kept no hook",
        ),
        _float(
            "energy",
            "surprisal of the next token, -ln p, in nats; NULL where there is no next token",
        ),
        _float("entropy", "entropy of the next-token distribution, in nats"),
        _float("confidence", "probability of the likeliest next token"),
        Column(
            "rank",
            pa.int32(),
            "tokens likelier than the true next one; 0 is best; NULL where there is no next token",
        ),
    ),
)
CODES = Table(
    "codes",
    "One non-zero feature activation, in token order. Negative ones are kept, padding never is.",
    "shard",
    ("run_id", "sae_id", "token_index", "feature_id"),
    (
        _RUN,
        _SAE,
        _TOKEN_INDEX,
        Column("feature_id", pa.int32(), _FEATURE.doc, "DELTA_BINARY_PACKED"),
        _ACTIVATION,
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
        _RUN,
        _TOKEN_INDEX,
        Column("layer", pa.int16(), "the block whose output is read; -1 before the first block"),
        _float("energy", "surprisal of the next token under the lens, in nats; NULL at the last"),
        _float("entropy", "entropy of the lens distribution, in nats"),
        Column("rank", pa.int32(), "tokens likelier than the true next one; NULL where none"),
        Column("top_vocab_id", pa.int32(), "the likeliest next token's number in the vocabulary"),
    ),
    optional=True,
)
ACTIVATIONS = Table(
    "activations",
    "The model's activation vector at a hook, kept when asked for.",
    "shard",
    ("run_id", "hook_name", "token_index"),
    (
        _RUN,
        _HOOK,
        _TOKEN_INDEX,
        Column("activation", pa.list_(pa.float32()), "d_in numbers, as the model computed them"),
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
        _RUN,
        _HOOK,
        _TOKEN_INDEX,
        Column(
            "gradient", pa.list_(pa.float32()), "d_in numbers, nats per unit; NULL at the last"
        ),
    ),
    optional=True,
)
ROUTING = Table(
    "routing",
    "One choice of a router for a token: an expert of a mixture, an anchor of a MesaNet.",
    "shard",
    ("run_id", "router", "layer", "token_index", "rank"),
    (
        _RUN,
        Column("router", pa.string(), "the router's place in the model"),
        Column("layer", pa.int16(), "the block the router stands in"),
        _TOKEN_INDEX,
        Column("rank", pa.int16(), "0 for the strongest choice"),
        Column("choice_id", pa.int16(), "number of the chosen expert or anchor"),
        _float("weight", "the weight the model gave to the choice"),
    ),
    optional=True,
)
ROUTING_TOKENS = Table(
    "routing_tokens",
    "What one router did at a token, over all of its choices.",
    "shard",
    ("run_id", "router", "layer", "token_index"),
    (
        _RUN,
        Column("router", pa.string(), "the router's place in the model"),
        Column("layer", pa.int16(), "the block the router stands in"),
        _TOKEN_INDEX,
        Column("logits", pa.list_(pa.float32()), "router logits, one for each choice"),
        _float("entropy", "entropy of the softmax over all choices, in nats"),
        _float("margin", "probability of the first choice less that of the second"),
        _float("seen_energy", "the energy the router was given, in nats; NULL where it sees none"),
        _float("energy_in", "lens energy before the block, in nats; NULL where not computed"),
        _float("energy_out", "lens energy after the block, in nats; NULL where not computed"),
        _float("write_norm", "norm of what the choices wrote; NULL where not computed"),
        Column("solver_steps", pa.int16(), "steps of the mixer's solver; NULL where it has none"),
    ),
    optional=True,
)
FEATURE_CODES = Table(
    "feature_codes",
    "The table codes in feature order: one feature's activations lie together.",
    "index",
    ("run_id", "sae_id", "feature_id", "token_index"),
    (_RUN, _SAE, _FEATURE, _TOKEN_INDEX, _ACTIVATION),
)
_MASK_NOTE = "over tokens that are not masked"
FEATURES = Table(
    "features",
    "One feature and its statistics. Masked tokens (special, first in a context, sinks) are left "
    "out unless a column says otherwise.",
    "index",
    ("run_id", "sae_id", "feature_id"),
    (
        _RUN,
        _SAE,
        _FEATURE,
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
        _RUN,
        _SAE,
        _FEATURE,
        _TEXT_ID,
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
        _RUN,
        _SAE,
        _FEATURE,
        Column("rank", pa.int16(), "0 for the strongest context"),
        Column("context_id", pa.int64(), "the context"),
        Column("token_index", pa.int64(), "the token where the feature peaks"),
        _float("activation", "activation at the peak"),
    ),
)
FEATURE_LOGITS = Table(
    "feature_logits",
    "The tokens a feature's decoder direction promotes and suppresses most, through the final "
    "norm's gain and the unembedding, the mean over the vocabulary taken off.",
    "index",
    ("run_id", "sae_id", "feature_id", "direction", "rank"),
    (
        _RUN,
        _SAE,
        _FEATURE,
        Column("direction", pa.string(), "'top' for promoted, 'bottom' for suppressed"),
        Column("rank", pa.int16(), "0 for the most extreme"),
        Column("vocab_id", pa.int32(), "the token's number in the vocabulary"),
        Column("token", pa.string(), "the token's piece of text"),
        _float("logit_weight", "what one unit of activation adds to the logit, up to the norm"),
    ),
)
FEATURE_NEIGHBOURS = Table(
    "feature_neighbours",
    "The features of the same SAE whose decoder directions are closest.",
    "index",
    ("run_id", "sae_id", "feature_id", "rank"),
    (
        _RUN,
        _SAE,
        _FEATURE,
        Column("rank", pa.int16(), "0 for the closest"),
        Column("neighbour_id", pa.int32(), "feature_id of the neighbour"),
        _float("cosine", "cosine of the two decoder directions"),
    ),
)

RUN_TABLES = (RUNS, SAES)
SHARD_TABLES = (
    TEXTS,
    CONTEXTS,
    TOKENS,
    CODES,
    ENERGIES,
    ACTIVATIONS,
    ENERGY_GRADIENTS,
    ROUTING,
    ROUTING_TOKENS,
)
INDEX_TABLES = (
    FEATURE_CODES,
    FEATURES,
    FEATURE_TEXTS,
    TOP_CONTEXTS,
    FEATURE_LOGITS,
    FEATURE_NEIGHBOURS,
)
TABLES = {table.name: table for table in (*RUN_TABLES, *SHARD_TABLES, *INDEX_TABLES)}
"""Every table of a store, by name."""

SINK_NORM_RATIO = 10.0
"""A token whose norm_ratio is above this is taken for a sink and masked (PEERS: 10 x median)."""
