"""The derived tables of routing: each router's figures, its circuits, and what it causes."""

import pyarrow as pa

from energylens.db.table import FEATURE, RUN, SAE, Column, Table

_ROUTER = Column("router", pa.string(), "the router's place in the model")
_LAYER = Column("layer", pa.int16(), "the block the router stands in")
ROUTING_LAYERS = Table(
    "routing_layers",
    "How one router spreads its tokens, and how its choices go with the energy, over tokens that "
    "are not masked.",
    "index",
    ("run_id", "router", "layer"),
    (
        RUN,
        _ROUTER,
        _LAYER,
        Column("n_choices", pa.int32(), "experts or anchors the router has"),
        Column("n_tokens", pa.int64(), "tokens routed"),
        Column("n_dead", pa.int32(), "choices no token takes at any rank"),
        Column("max_vio", pa.float64(), "load of the busiest over the mean load, less 1"),
        Column("load_cv", pa.float64(), "deviation of the loads over their mean"),
        Column("concentration", pa.float64(), "1 - mean H(p)/ln K: 1 is one choice a token"),
        Column("balance", pa.float64(), "H(mean p)/ln K: 1 is all choices alike over the run"),
        Column(
            "routing_information",
            pa.float64(),
            "(H(mean p) - mean H(p))/ln K, what a token tells of its choice: the efficiency that "
            "neither collapse nor blur can fake",
        ),
        Column(
            "usage_spread",
            pa.float64(),
            "1 - deviation of the mean p: a score in use "
            "elsewhere as specialization, near 1 for an untrained router; not one",
        ),
        Column(
            "energy_correlation",
            pa.float64(),
            "partial Spearman of the energy and the largest p, given frequency and position",
        ),
        Column("energy_t", pa.float64(), "its t, clustered by text; NULL with fewer than 10 texts"),
        Column("energy_p", pa.float64(), "two-sided p of the t beside it"),
        Column("energy_omega_squared", pa.float64(), "share of the energy's variance by choice"),
        Column(
            "energy_ceiling",
            pa.float64(),
            "correlation of the output's entropy with the energy: more than that, for a router "
            "that sees no later token, is a leak; NULL where not computed",
        ),
        Column(
            "seen_correlation",
            pa.float64(),
            "correlation of the energy the router saw with the true one; NULL where it sees none",
        ),
    ),
)


def _bounds(name: str, how: str) -> tuple[Column, Column]:
    """The 95 % interval of a column."""
    return (
        Column(f"{name}_low", pa.float64(), f"lower bound of its 95 % interval, {how}"),
        Column(f"{name}_high", pa.float64(), f"upper bound of its 95 % interval, {how}"),
    )


ROUTING_METRICS = Table(
    "routing_metrics",
    "Every figure of a router with its interval and its baseline, over tokens that are not masked; "
    "the macro routing_report says what each is. NULL where it is not defined.",
    "index",
    ("run_id", "router", "layer", "metric"),
    (
        RUN,
        _ROUTER,
        _LAYER,
        Column("word", pa.string(), "efficiency, specialization, energy, or origin"),
        Column("metric", pa.string(), "its name"),
        Column("value", pa.float64(), "the figure"),
        *_bounds(
            "value",
            "by leaving out groups of texts; NULL with fewer than 10, and for information given "
            "the token, whose bias depends on how much there is",
        ),
        Column("baseline", pa.float64(), "the same for a router that sends tokens anywhere"),
    ),
)
ROUTING_INFORMATION = Table(
    "routing_information",
    "Mutual information of a router's first choice with a label, with the bias of the sample "
    "taken off by a null that keeps what it must.",
    "index",
    ("run_id", "router", "layer", "label"),
    (
        RUN,
        _ROUTER,
        _LAYER,
        Column(
            "label",
            pa.string(),
            "part (quarter of the text), token, class (word, word part, number, ...) or energy "
            "(decile; null: choices rotated in their text), energy_given_token (null: choices "
            "rotated among the tokens of a vocabulary id in their text), category and "
            "category_given_token (null: categories dealt to texts, so that with tokens that occur "
            "in one category alone the last is too strict)",
        ),
        Column("information", pa.float64(), "plug-in information, bits"),
        Column("expected", pa.float64(), "its mean under the null, bits"),
        Column("adjusted", pa.float64(), "information less expected, bits"),
        Column("normalized", pa.float64(), "adjusted over the label's entropy"),
        Column(
            "p",
            pa.float64(),
            "share of draws of the null with as much; NULL with fewer than 10 texts",
        ),
    ),
)
ROUTING_CIRCUITS = Table(
    "routing_circuits",
    "A path of first choices over consecutive layers: the most frequent, of at least 50 tokens in "
    "5 texts and of 3 vocabulary ids, and those of which 50 tokens are expected, however many "
    "there are.",
    "index",
    ("run_id", "n_layers", "first_layer", "choices"),
    (
        RUN,
        Column("n_layers", pa.int16(), "layers of the path: 2 is an edge"),
        Column("first_layer", pa.int16(), "block of its first choice"),
        Column("choices", pa.list_(pa.int16()), "the choice at each layer"),
        Column("n_tokens", pa.int64(), "tokens that take the path"),
        Column("n_texts", pa.int64(), "texts they stand in"),
        Column("n_vocab", pa.int64(), "different vocabulary ids among them"),
        Column("support", pa.float64(), "share of all tokens"),
        Column("lift", pa.float64(), "support over what independent layers would give"),
        Column("pmi", pa.float64(), "ln of lift, nats"),
        Column("npmi", pa.float64(), "pmi over -ln support: 1 where choices only come together"),
        Column("markov_lift", pa.float64(), "n_tokens over what its pairs of layers would give"),
        Column(
            "energy_drop",
            pa.float64(),
            "mean fall of the lens energy over its layers, less that of all tokens, nats",
        ),
        Column(
            "energy_drop_error",
            pa.float64(),
            "its standard error, clustered by text; NULL in fewer than 10",
        ),
        Column(
            "expected",
            pa.float64(),
            "tokens there would be if layers knew nothing of each other but the token",
        ),
        Column(
            "t",
            pa.float64(),
            "n_tokens less expected over its error, clustered by text; NULL where fewer than 50 "
            "tokens are expected (a path that is tested because it is frequent is frequent by "
            "chance too) or there are fewer than 10 texts",
        ),
        Column("p", pa.float64(), "two-sided p of t, degrees of freedom: texts less one"),
        Column("q", pa.float64(), "Benjamini-Hochberg q over paths of the same number of layers"),
        Column("example_tokens", pa.list_(pa.int64()), "token_index of some of its tokens"),
    ),
)
ROUTING_FEATURES = Table(
    "routing_features",
    "The features of an SAE that go most with a router's first choice, over tokens not masked.",
    "index",
    ("run_id", "sae_id", "router", "layer", "choice_id", "rank"),
    (
        RUN,
        SAE,
        _ROUTER,
        _LAYER,
        Column("choice_id", pa.int16(), "the expert or anchor"),
        Column("rank", pa.int16(), "0 for the highest phi"),
        FEATURE,
        Column("n_both", pa.int64(), "tokens the feature is active on that take the choice"),
        Column("n_feature", pa.int64(), "tokens the feature is active on"),
        Column("n_choice", pa.int64(), "tokens that take the choice"),
        Column("precision", pa.float64(), "share of the feature's tokens that take the choice"),
        Column("recall", pa.float64(), "share of the choice's tokens the feature is active on"),
        Column("lift", pa.float64(), "precision over the choice's share of all tokens"),
        Column("phi", pa.float64(), "correlation of being active with being chosen"),
        Column(
            "t",
            pa.float64(),
            "t of the two going together, clustered by text; NULL for a feature on fewer than 30 "
            "tokens or in fewer than 10 texts",
        ),
        Column(
            "p",
            pa.float64(),
            "two-sided p of t for a pair named beforehand; these were picked by phi: read q",
        ),
        Column("q", pa.float64(), "at most the Benjamini-Hochberg q over all features and choices"),
    ),
)

_CLUSTERED = "clustered by text; NULL where its texts are worth fewer than 20 of equal size"
ENERGY_PERMUTATIONS = Table(
    "energy_permutations",
    "What a router does when the energy it sees is that of another token. Made on request by "
    "`energylens routing`, over sampled contexts.",
    "index",
    ("run_id", "router"),
    (
        RUN,
        Column("router", pa.string(), "the router; `all` where all of them are given others"),
        Column("layer", pa.int16(), "its block; NULL for all"),
        Column("n_tokens", pa.int64(), "tokens measured"),
        Column("n_texts", pa.int64(), "texts they stand in"),
        *(
            column
            for name, doc in (
                ("total_variation", "half the summed change of p, mean over tokens"),
                ("moved", "share of tokens with another first choice"),
                ("energy_change", "nats a token; positive where the model predicts worse"),
            )
            for column in (
                Column(name, pa.float64(), doc),
                *_bounds(name, _CLUSTERED),
            )
        ),
    ),
)
ANCHOR_ABLATIONS = Table(
    "anchor_ablations",
    "What leaving out the writes of one anchor does to energies, nats a token. Made on request by "
    "`energylens routing`, over sampled contexts.",
    "index",
    ("run_id", "router", "layer", "choice_id"),
    (
        RUN,
        _ROUTER,
        _LAYER,
        Column("choice_id", pa.int16(), "the anchor"),
        Column("n_own", pa.int64(), "tokens that go to it, at any rank"),
        Column("n_others", pa.int64(), "tokens that do not"),
        *(
            column
            for name, doc, how in (
                ("own", "change at its own tokens; NULL where it has none", _CLUSTERED),
                ("others", "change at the others, which it reaches by way of them", "likewise"),
                (
                    "difference",
                    "own less others",
                    "by leaving out groups of texts; NULL with fewer than 10",
                ),
            )
            for column in (Column(name, pa.float64(), doc), *_bounds(name, how))
        ),
    ),
)

ROUTING = (
    ROUTING_LAYERS,
    ROUTING_METRICS,
    ROUTING_INFORMATION,
    ROUTING_CIRCUITS,
    ROUTING_FEATURES,
    ENERGY_PERMUTATIONS,
    ANCHOR_ABLATIONS,
)
"""Every table of routing."""
