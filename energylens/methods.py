"""What a worker can be asked: its methods with the records they take and give."""

from dataclasses import dataclass

from energylens.protocol import (
    AttentionRequest,
    AttentionResult,
    AttributionRequest,
    AttributionResult,
    CausalityRequest,
    DoneResult,
    EfasRequest,
    IndexRequest,
    InterventionRequest,
    InterventionResult,
    LoadResult,
    PromptRequest,
    PromptResult,
    SourcesRequest,
    SourcesResult,
    SteeringRequest,
    SteeringResult,
    VectorsRequest,
)


@dataclass(frozen=True)
class Nothing:
    """No more than that it was done."""


@dataclass(frozen=True)
class HelloResult:
    """Who the worker is."""

    protocol: int
    """The version of the methods and records."""
    energylens: str
    methods: list[str]


@dataclass(frozen=True)
class CancelRequest:
    """Which request is to end; a method's params as they are, for `cancel` names no store."""

    id: int | str
    """That of the request."""


@dataclass(frozen=True)
class CancelResult:
    """Answer to a CancelRequest."""

    cancelled: bool
    """Whether there was such a request, waiting or running."""


@dataclass(frozen=True)
class Method:
    """One method."""

    name: str
    what: str
    result: type
    request: type | None = None
    """What `request` of the params holds; None where they hold none."""
    has_place: bool = True
    """The params name a store and a run."""
    writes: bool = False
    """What it finds lies in the store afterwards."""


METHODS = (
    Method("hello", "who the worker is, and what it can be asked", HelloResult, has_place=False),
    Method("load", "loads the model and says what passes cost here", LoadResult),
    Method("open", "loads the model, before anything is asked of it", Nothing),
    Method(
        "prompt",
        "a text, or two: tokens, energies and likeliest tokens at every layer, features, routing; "
        "with `gains`, a file that `energylens repair` wrote, in place",
        PromptResult,
        PromptRequest,
    ),
    Method(
        "intervene",
        "a text clean, edited, and under three controls; an edit may be a file of `gains` in place "
        "of features",
        InterventionResult,
        InterventionRequest,
    ),
    Method(
        "attribute",
        "the features behind a prediction or another feature",
        AttributionResult,
        AttributionRequest,
    ),
    Method(
        "attention",
        "all attention of one head in a context of the run, or in a text",
        AttentionResult,
        AttentionRequest,
    ),
    Method(
        "sources",
        "the tokens and heads that made a feature of an attention-output SAE fire",
        SourcesResult,
        SourcesRequest,
    ),
    Method(
        "steer",
        "text with a feature held or added; reports of the phase `preview` carry the text so far",
        SteeringResult,
        SteeringRequest,
    ),
    Method(
        "efas", "EFAS of one more gradient, into the index", DoneResult, EfasRequest, writes=True
    ),
    Method(
        "causality",
        "what ablating sampled features does over the corpus, into the table feature_effects",
        DoneResult,
        CausalityRequest,
        writes=True,
    ),
    Method(
        "vectors",
        "activations or gradients at a hook, into the run's shards",
        DoneResult,
        VectorsRequest,
        writes=True,
    ),
    Method("index", "makes the run's index again", DoneResult, IndexRequest, writes=True),
    Method(
        "cancel", "ends a request that waits or runs", CancelResult, CancelRequest, has_place=False
    ),
    Method("shutdown", "ends the worker", Nothing, has_place=False),
)
BY_NAME = {method.name: method for method in METHODS}
