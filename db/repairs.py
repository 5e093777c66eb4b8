"""The tables of repairs: what gains of features do to a model's energy, beside everything else."""

import pyarrow as pa

from energylens.db.table import FEATURE, RUN, SAE, Column, Table

REPAIRS = Table(
    "repairs",
    "What gains of an SAE's features do to the model's energy on texts they were not learned on, "
    "beside controls and other ways to lower it, all learned on the same half. Made on request by "
    "`energylens repair`; docs/findings/repair.md says what each condition is.",
    "index",
    ("run_id", "sae_id", "split", "condition", "against"),
    (
        RUN,
        SAE,
        Column("split", pa.int16(), "which halves, from 0; -1 for all splits together"),
        Column(
            "condition",
            pa.string(),
            "what was done: gains of features chosen by one figure (`by ...`), a control of them, "
            "or another thing learned on the same texts",
        ),
        Column(
            "against",
            pa.string(),
            "what the change is counted from: nothing (the model as it is), the best global gain, "
            "or features chosen otherwise: those that were asked for, and `by efas`",
        ),
        Column("chosen_by", pa.string(), "what the features that controls are of are chosen by"),
        Column("n_features", pa.int32(), "features that get a gain"),
        Column("gain", pa.float64(), "how far each is turned, up or down"),
        Column("n_learned", pa.int32(), "texts learned on"),
        Column("n_judged", pa.int32(), "texts judged on"),
        Column("n_tokens", pa.int64(), "tokens judged on"),
        Column("energy", pa.float64(), "mean energy of those tokens under the condition, nats"),
        Column(
            "amount",
            pa.float64(),
            "the global gain, the bias's length or the temperature that was learned; NULL for "
            "others",
        ),
        Column(
            "change",
            pa.float64(),
            "mean change of the energy, nats a token: negative where the model predicts better",
        ),
        Column(
            "change_low",
            pa.float64(),
            "lower end of its 95 % interval, clustered by text; for all splits together each end "
            "is the mean of the splits' (too wide rather than too narrow); NULL where the judging "
            "texts are worth fewer than 20 of equal size",
        ),
        Column("change_high", pa.float64(), "upper end of the interval"),
        Column(
            "contaminated",
            pa.int32(),
            "texts of the run that the SAE was trained on: more than 0 is contaminated; NULL where "
            "its record does not tell",
        ),
    ),
)
REPAIR_GAINS = Table(
    "repair_gains",
    "The gains that `energylens repair` wrote to its file: learned on the half that the first "
    "split learns on.",
    "index",
    ("run_id", "sae_id", "feature_id"),
    (
        RUN,
        SAE,
        FEATURE,
        Column("gain", pa.float64(), "what the feature writes more, as a share; less where < 0"),
        Column(
            "attribution",
            pa.float64(),
            "mean of z g over the tokens of the half, nats: minus the derivative of their energy "
            "by the gain",
        ),
        Column("t", pa.float64(), "t of the attribution, clustered by text"),
        Column("n_active", pa.int64(), "tokens of the half the feature is active on"),
    ),
)
