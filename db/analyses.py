"""The derived tables of the analyses: specialists, EFAS, co-activation, matches, effects."""

import pyarrow as pa

from energylens.db.routing import ROUTING
from energylens.db.table import FEATURE, RUN, SAE, Column, Table, float_column

_VARIANT = Column(
    "variant",
    pa.string(),
    "what z is compared with: g = -dE/dz of the gradient lens, own, total or calibration; "
    "position is the energy's negative slope along the text, as EFAS was first defined; energy is "
    "the energy itself, and drop what the blocks after the SAE's place are worth to the token (its "
    "energy there less that of the output); these two are no EFAS",
)
_TESTED = "NULL where the feature is active on fewer than 30 tokens or in fewer than 10 texts"
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
        Column("n_texts", pa.int32(), "texts it is active in"),
        Column("efas", pa.float64(), "Pearson correlation of z and g; NULL where one is constant"),
        Column(
            "t_efas",
            pa.float64(),
            f"t of efas, clustered by text; what texts differ in is part of it. {_TESTED}",
        ),
        Column("p_efas", pa.float64(), "two-sided p of t_efas, degrees of freedom: texts less one"),
        Column("q_efas", pa.float64(), "Benjamini-Hochberg q of p_efas over the tested features"),
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
        Column("within_low", pa.float64(), "lower end of its 95 % interval, clustered by text"),
        Column("within_high", pa.float64(), "upper end of the interval"),
        Column(
            "within_groups",
            pa.list_(pa.float32()),
            "what groups of texts (text_id modulo 20) add to within: runs over the same texts are "
            "compared group by group; NULL where it is not tested",
        ),
        Column("t", pa.float64(), f"t of within, clustered by text. {_TESTED}"),
        Column("p", pa.float64(), "two-sided p of t, degrees of freedom: n_texts less one"),
        Column("q", pa.float64(), "Benjamini-Hochberg q over the tested features of the SAE"),
        Column("p_flip", pa.float64(), "p by random sign flips of the text scores"),
        Column("p_familywise", pa.float64(), "the same, adjusted for all features of the SAE"),
        Column("adjusted", pa.float64(), "partial correlation given position, frequency, energy"),
        Column("t_adjusted", pa.float64(), "its t, clustered by text"),
        Column("p_adjusted", pa.float64(), "p of t_adjusted"),
        Column("t_even", pa.float64(), "t of within from the texts of even number alone"),
        Column("p_even", pa.float64(), "its p: select features on one half ..."),
        Column("t_odd", pa.float64(), "t of within from the texts of odd number alone"),
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
        Column("n_texts", pa.int32(), "texts of the category it is active in"),
        Column("efas", pa.float64(), "Pearson correlation of z and g within the category"),
        Column("attribution", pa.float64(), "mean of z g over the category's tokens, nats"),
        Column("t", pa.float64(), f"t of within, clustered by text. {_TESTED}"),
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
    "texts that have such a token. Long texts hold more of everything: over texts, lift, pmi and "
    "phi are against what texts of the same length give.",
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
        float_column(
            "phi", "correlation of the two being active; over texts with means of like length off"
        ),
        float_column("cosine", "cosine of the two activations over tokens"),
        Column("n_texts_both", pa.int64(), "texts both are active in"),
        Column(
            "n_texts_expected",
            pa.float64(),
            "texts they would share if each were dealt its texts anew among those of like length",
        ),
        Column(
            "p",
            pa.float64(),
            "one-sided p of n_texts_both, hypergeometric within strata of like length, for a pair "
            "named beforehand: these were picked by phi, read q; NULL with fewer than 20 texts",
        ),
        Column(
            "q",
            pa.float64(),
            "at most the Benjamini-Hochberg q over all pairs of the SAE's live features: pairs "
            "that are not listed count as tests without a finding",
        ),
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
        Column(
            "trapezoid",
            pa.float64(),
            "mean of z g with and without the feature: of the predictions the one to read",
        ),
        Column("measured", pa.float64(), "the change itself"),
        Column(
            "token_correlation",
            pa.float64(),
            "Pearson correlation over tokens of z g and the change; NULL for total",
        ),
    ),
)

_BY_LEAVING_OUT = "by leaving out one feature at a time; NULL with fewer than 30"
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
        Column("prediction", pa.string(), "trapezoid, first_order, gauss_newton or efas"),
        Column("n", pa.int64(), "features compared"),
        Column(
            "correlation",
            pa.float64(),
            "Pearson correlation of predicted and measured; no interval of it holds where effects "
            "are as skewed as these",
        ),
        *(
            column
            for name, doc, how in (
                ("slope", "of measured on predicted, through zero", _BY_LEAVING_OUT),
                ("sign_agreement", "share of features whose sign is foretold", "an exact one"),
                (
                    "relative_error",
                    "summed absolute errors over summed absolute measured values",
                    _BY_LEAVING_OUT,
                ),
            )
            for column in (
                Column(name, pa.float64(), doc),
                Column(f"{name}_low", pa.float64(), f"lower bound of its 95 % interval, {how}"),
                Column(f"{name}_high", pa.float64(), f"upper bound of its 95 % interval, {how}"),
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
    *ROUTING,
    FEATURE_EFFECTS,
    EFFECT_AGREEMENTS,
)
"""Every table of the analyses."""
