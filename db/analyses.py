"""The derived tables of the analyses: specialists, EFAS, co-activation, matches and routing."""

import pyarrow as pa

from db.table import FEATURE, RUN, SAE, Column, Table, float_column

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
        Column("within_high", pa.float64(), "upper end of the interval"),
        Column("t", pa.float64(), "cluster-robust t of within; NULL where it is not tested"),
        Column("p", pa.float64(), "two-sided p of t, degrees of freedom: windows less one"),
        Column("q", pa.float64(), "Benjamini-Hochberg q over the tested features of the SAE"),
        Column("p_flip", pa.float64(), "p by random sign flips of the window scores"),
        Column("p_familywise", pa.float64(), "the same, adjusted for all features of the SAE"),
        Column("adjusted", pa.float64(), "partial correlation given position, frequency, energy"),
        Column("t_adjusted", pa.float64(), "its cluster-robust t"),
        Column("p_adjusted", pa.float64(), "p of t_adjusted"),
        Column("t_even", pa.float64(), "t from the contexts of even number alone"),
        Column("p_even", pa.float64(), "its p: select features on one half ..."),
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
        Column("p", pa.float64(), "two-sided p of the t beside it"),
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
        Column("energy_t", pa.float64(), "its t, clustered by context"),
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
            "category (null: categories shuffled over texts), part (quarter of the text), token "
            "or energy (decile; null: choices rotated in their context), category_given_token and "
            "energy_given_token (null: choices shuffled among tokens of a vocabulary id)",
        ),
        Column("information", pa.float64(), "plug-in information, bits"),
        Column("expected", pa.float64(), "its mean under the null, bits"),
        Column("adjusted", pa.float64(), "information less expected, bits"),
        Column("normalized", pa.float64(), "adjusted over the label's entropy"),
        Column("p", pa.float64(), "share of draws of the null with as much"),
    ),
)
ROUTING_CIRCUITS = Table(
    "routing_circuits",
    "A path of first choices over consecutive layers, of at least 50 tokens in 5 contexts and of "
    "3 vocabulary ids.",
    "index",
    ("run_id", "n_layers", "first_layer", "choices"),
    (
        RUN,
        Column("n_layers", pa.int16(), "layers of the path: 2 is an edge"),
        Column("first_layer", pa.int16(), "block of its first choice"),
        Column("choices", pa.list_(pa.int16()), "the choice at each layer"),
        Column("n_tokens", pa.int64(), "tokens that take the path"),
        Column("n_windows", pa.int64(), "contexts they stand in"),
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
        Column("energy_drop_error", pa.float64(), "its standard error, clustered by context"),
        Column("expected", pa.float64(), "mean tokens with each layer shuffled within vocab ids"),
        Column("z", pa.float64(), "n_tokens less expected, in deviations of the shuffles"),
        Column("p", pa.float64(), "two-sided p of z"),
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
        Column("t", pa.float64(), "t of the two going together, clustered by context"),
        Column("p", pa.float64(), "two-sided p of the t beside it"),
        Column("q", pa.float64(), "Benjamini-Hochberg q over all features and choices"),
    ),
)

FEATURE_EFFECTS = Table(
    "feature_effects",
    "What ablating a feature does to energies, measured and predicted, over the contexts it was "
    "tried in: nats, summed, energy without the feature less energy with it. Made on request by "
    "`energylens causality`, for sampled features and for others that are active as often.",
    "index",
    ("run_id", "sae_id", "energy", "feature_id"),
    (
        RUN,
        SAE,
        Column(
            "energy",
            pa.string(),
            "lens: of the token, read where the SAE writes; total: the model's, of all tokens",
        ),
        FEATURE,
        Column(
            "matched_to",
            pa.int32(),
            "the sampled feature this one is as active as; NULL for a sampled feature itself",
        ),
        Column("n_active", pa.int64(), "tokens it was ablated at"),
        Column("n_contexts", pa.int32(), "contexts it was tried in"),
        Column("efas", pa.float64(), "its EFAS with the lens gradient, from the table efas"),
        Column("first_order", pa.float64(), "sum of z g"),
        Column(
            "gauss_newton",
            pa.float64(),
            "first order and half of the variance of the logits' change under the model",
        ),
        Column("trapezoid", pa.float64(), "mean of the gradients with and without the feature"),
        Column("measured", pa.float64(), "the change itself"),
        Column(
            "token_correlation",
            pa.float64(),
            "Pearson correlation over tokens of z g and the change; NULL for total",
        ),
    ),
)

_INTERVAL = "bound of its 95 % interval by a bootstrap over features"
EFFECT_AGREEMENTS = Table(
    "effect_agreements",
    "How the predictions of feature_effects fit what was measured, over features. NULL where there "
    "are fewer than three features, or where prediction and measurement have no common unit.",
    "index",
    ("run_id", "sae_id", "energy", "features", "prediction"),
    (
        RUN,
        SAE,
        Column("energy", pa.string(), "lens or total, as in feature_effects"),
        Column("features", pa.string(), "sampled, rate-matched or all"),
        Column("prediction", pa.string(), "first_order, gauss_newton, trapezoid or efas"),
        Column("n", pa.int64(), "features compared"),
        *(
            column
            for name, doc in (
                ("correlation", "Pearson correlation of predicted and measured"),
                ("slope", "of measured on predicted, through zero"),
                ("sign_agreement", "share of features whose sign is foretold"),
                ("relative_error", "summed absolute errors over summed absolute measured values"),
            )
            for column in (
                Column(name, pa.float64(), doc),
                Column(f"{name}_low", pa.float64(), f"lower {_INTERVAL}"),
                Column(f"{name}_high", pa.float64(), f"upper {_INTERVAL}"),
            )
        ),
    ),
)

ANALYSES = (
    SPECIALISTS,
    EFAS,
    EFAS_CATEGORIES,
    COACTIVATION,
    COACTIVATION_CLUSTERS,
    FEATURE_MATCHES,
    ROUTING_LAYERS,
    ROUTING_INFORMATION,
    ROUTING_CIRCUITS,
    ROUTING_FEATURES,
    FEATURE_EFFECTS,
    EFFECT_AGREEMENTS,
)
"""Every table of the analyses."""
