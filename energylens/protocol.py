"""What the worker is asked and what it answers: records that travel as JSON.

`energylens.methods` says which belong to which method, `energylens.rpc` how they travel; a schema
of all is made from them by `energylens.wire_schema`.
"""

from dataclasses import dataclass

from energylens.when import When, WhenReport


@dataclass(frozen=True)
class PromptRequest:
    """Run a text through a run's model and SAEs."""

    text: str
    other: str | None = None
    """A second text, read beside the first; None for one alone."""
    top: int = 10
    """Features reported for each token and SAE, strongest first."""
    keep: bool = False
    """Store it as a run of kind prompt."""
    gains: str | None = None
    """A file of gains that the texts are read with; None is the model as it is."""


@dataclass(frozen=True)
class EditRequest:
    """What is done to features of one SAE; see `energylens.lens.interventions`."""

    sae_id: str
    feature_ids: tuple[int, ...]
    kind: str = "ablate"
    value: float = 0.0
    unit: str = "activation"
    positions: tuple[int, ...] | None = None
    """Tokens of the context; None is every token but BOS."""
    when: When | None = None
    """Only at those of them where this holds; None is at all."""
    gains: str | None = None
    """A file of gains, in place of features and a kind of edit; it knows its SAE."""


@dataclass(frozen=True)
class InterventionRequest:
    """Run a text with features changed, beside the clean run and controls."""

    text: str
    edit: EditRequest
    seed: int = 0
    keep: bool = True


@dataclass(frozen=True)
class AttributionRequest:
    """Which features of one SAE matter for one prediction, or for another feature; in a text, or
    in a context of the run."""

    text: str
    """Empty where `context_id` is given."""
    sae_id: str
    position: int = -1
    """The token whose prediction is explained; negative counts from the end."""
    token: str | None = None
    """What is predicted; None is the token that follows, or the likeliest where none does."""
    other_sae_id: str | None = None
    """Explain a feature of this SAE at the position instead of a prediction."""
    other_feature_id: int | None = None
    top: int = 20
    """Features that are ablated one by one."""
    context_id: int | None = None
    """A context of the run, in place of a text."""


@dataclass(frozen=True)
class AttentionRequest:
    """All attention of one head in a context of the run, or in a text: one of the two is given."""

    layer: int
    head: int
    context_id: int | None = None
    text: str | None = None


@dataclass(frozen=True)
class SourcesRequest:
    """Which tokens made a feature of an attention-output SAE fire, in a context or a text."""

    sae_id: str
    feature_id: int
    position: int = -1
    """Where it is active; negative counts from the end."""
    context_id: int | None = None
    text: str | None = None


@dataclass(frozen=True)
class SteeringRequest:
    """Generate text with a feature held or added, at several strengths."""

    prompt: str
    edit: EditRequest
    strengths: tuple[float, ...] = (0.0, 1.0, 2.0)
    """Values of the edit; 0 is the text without it, and is always there."""
    n_tokens: int = 40
    temperature: float = 0.8
    """0 always takes the likeliest token."""
    seed: int = 0


@dataclass(frozen=True)
class EfasRequest:
    """Add EFAS of one more gradient to the run's index."""

    sae_id: str
    variant: str


@dataclass(frozen=True)
class CausalityRequest:
    """Ablate sampled features over the corpus, into the table feature_effects."""

    sae_id: str
    n_features: int = 10
    n_contexts: int = 16
    seed: int = 0


@dataclass(frozen=True)
class VectorsRequest:
    """Keep activations or gradients at a hook."""

    what: str
    hook_name: str


@dataclass(frozen=True)
class IndexRequest:
    """Make the run's index again."""


@dataclass(frozen=True)
class DoneResult:
    """Answer to a request whose result lies in the store."""

    message: str


@dataclass(frozen=True)
class LoadResult:
    """Answer to `load`: what it costs to run the model here."""

    seconds_per_pass: float
    """One short text, with everything that is read of it."""
    tokens_per_second: float
    """On whole contexts."""
    n_ctx: int


@dataclass(frozen=True)
class TokenReading:
    """One token of a text that was run."""

    pos: int
    token: str
    vocab_id: int
    energy: float | None
    """Nats, of the token that follows; None at the end."""
    entropy: float
    energies: list[float | None]
    """After each layer of the result's `layers`."""
    continuations: list[str]
    """The likeliest next token at each of those layers."""


@dataclass(frozen=True)
class FeatureReading:
    """A feature that is active at a token."""

    sae_id: str
    pos: int
    feature_id: int
    activation: float


@dataclass(frozen=True)
class ChoiceReading:
    """What a router chose at a token."""

    router: str
    layer: int
    pos: int
    choice_ids: list[int]
    weights: list[float]


@dataclass(frozen=True)
class Reading:
    """One text as the model read it."""

    layers: list[int]
    tokens: list[TokenReading]
    features: list[FeatureReading]
    choices: list[ChoiceReading]


@dataclass(frozen=True)
class PromptResult:
    """Answer to a PromptRequest."""

    reading: Reading
    other: Reading | None
    kept_as: str | None
    """The run it was stored as; None where it was not."""


@dataclass(frozen=True)
class Condition:
    """The text with one change: the edit itself, or a control."""

    name: str
    """clean, edited, flipped, noise or like."""
    feature_ids: list[int]
    """Features changed; none for clean and noise."""
    energies: list[float | None]
    """At each token, nats, of the model's output."""
    lens_energies: list[list[float | None]]
    """[n_layers, n_tokens]."""
    kl: list[float]
    """KL(clean || this) of the next-token distribution at each token, nats."""
    energy_change: float
    """Mean over tokens with a next one, against clean, nats."""
    acted: list[bool] | None = None
    """At which tokens the change was made; None from a worker that does not tell it."""


@dataclass(frozen=True)
class TokenShift:
    """A next token whose probability the edit moved."""

    pos: int
    token: str
    before: float
    after: float


@dataclass(frozen=True)
class FeatureShift:
    """A feature whose summed activation over the text the edit moved."""

    sae_id: str
    feature_id: int
    before: float
    after: float


@dataclass(frozen=True)
class RoutingShift:
    """What the edit did to a router: tokens whose first choice changed, and how far
    probabilities moved."""

    router: str
    layer: int
    share_changed: float
    total_variation: float


@dataclass(frozen=True)
class InterventionResult:
    """Answer to an InterventionRequest."""

    tokens: list[str]
    layers: list[int]
    conditions: list[Condition]
    shifts: list[TokenShift]
    features: list[FeatureShift]
    routing: list[RoutingShift]
    kept_as: str | None
    when: WhenReport | None = None
    """None where the edit has no condition."""


@dataclass(frozen=True)
class FeatureAttribution:
    """What one feature contributes, by three measures; units of the metric."""

    feature_id: int
    direct: float | None
    """Direct logit attribution at the position; None where a feature is explained."""
    gradient: float
    """Gradient times activation, summed over the context."""
    ablation: float | None
    """The metric less what it is without the feature; None beyond the top ones."""
    n_active: int


@dataclass(frozen=True)
class Curve:
    """A metric as features are kept or removed, as a share of what all of them do together."""

    n_features: list[int]
    faithfulness: list[float]
    """With only the first n features kept."""
    completeness: list[float]
    """With the first n features removed."""


@dataclass(frozen=True)
class AttributionResult:
    """Answer to an AttributionRequest."""

    metric: str
    """What was explained, in words."""
    tokens: list[str]
    """Of the context."""
    position: int
    """The token it was explained at."""
    value: float
    without_features: float
    """The metric with every feature of the SAE removed and its error kept."""
    features: list[FeatureAttribution]
    """By size of gradient times activation."""
    agreement: dict[str, float | None]
    """Spearman correlation over the ablated features, by pair of measures."""
    curve: Curve


@dataclass(frozen=True)
class AttentionResult:
    """Answer to an AttentionRequest."""

    kind: str
    """attention; or mesa, shares of absolute weights, an analogue."""
    tokens: list[str]
    pattern: list[list[float]]
    """For each token, its attention to every token up to itself."""


@dataclass(frozen=True)
class SourcesResult:
    """Answer to a SourcesRequest."""

    tokens: list[str]
    """Up to the position."""
    activation: float
    rest: float
    """What is no token's: biases of the SAE and of the heads."""
    shares: list[list[float]]
    """What each token gave, by head; with the rest they sum to the activation."""


@dataclass(frozen=True)
class SteeredText:
    """One continuation."""

    strength: float
    text: str
    activation: float
    """Mean activation of the features over the new tokens, read without any edit."""
    perplexity: float
    """Of the new tokens under the model without any edit."""
    distinct: float
    """Distinct two-token sequences of the continuation, as a share of all."""
    activation_steered: float | None = None
    """Mean activation over the new tokens as the steered model reads them, with the edit in place;
    None from a worker that does not tell it."""
    n_acted: int | None = None
    """Tokens of prompt and continuation at which the change was made."""
    n_read: int | None = None
    """All of them, BOS and what stands for it left out."""


@dataclass(frozen=True)
class SteeringResult:
    """Answer to a SteeringRequest."""

    prompt: str
    texts: list[SteeredText]
    when: WhenReport | None = None
    """None where the edit has no condition."""


@dataclass(frozen=True)
class ProgressReport:
    """How far a request has come."""

    phase: str
    done: int
    total: int
    unit: str
    message: str | None = None
    seconds_left: float | None = None
    """Until all is loaded, where that is known, in a phase that tells nothing until it ends."""
