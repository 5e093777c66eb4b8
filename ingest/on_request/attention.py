"""One context of a run, or a text: all attention of one head, and the sources of a feature."""

import torch

from energylens.db.store import open_store
from energylens.errors import UsageError
from energylens.ingest.on_request.reopen import Reopened
from energylens.ingest.on_request.stored_contexts import stored_contexts
from energylens.ingest.progress import Progress
from energylens.lens.circuits.attribution import source_shares
from energylens.lens.circuits.patterns import LayerHeads, read_patterns
from energylens.lens.circuits.weights import HeadWeights, read_heads
from energylens.protocol import (
    AttentionRequest,
    AttentionResult,
    SourcesRequest,
    SourcesResult,
)
from energylens.queries.names import check_number


def attention(reopened: Reopened, asked: AttentionRequest, progress: Progress) -> AttentionResult:
    """Run the context and keep one head's attention.

    Raises:
        UsageError: the model has no such head, or the run no such context, or the text does not
            fit one.
    """
    weights = read_heads(reopened.model)
    check_head(reopened, weights, asked.layer, asked.head)
    ids = context_ids(reopened, asked.context_id, asked.text)
    rows = read_layer(reopened, weights, ids, asked.layer).pattern[0, asked.head].tolist()
    return AttentionResult(
        kind=weights.kind,
        tokens=[reopened.label(i) for i in ids],
        pattern=[row[: at + 1] for at, row in enumerate(rows)],
    )


def check_head(reopened: Reopened, weights: HeadWeights, layer: int, head: int) -> None:
    """Make sure there is such a head.

    Raises:
        UnknownNameError: there is none.
    """
    model = f"the {reopened.model.model_class}"
    check_number("layer", layer, weights.n_layers, model)
    check_number("head", head, weights.n_heads, f"a layer of {model}")


def context_ids(reopened: Reopened, context_id: int | None, text: str | None) -> list[int]:
    """The ids of a stored context, or of a text as one.

    Raises:
        UsageError: both or none are given, or there is no such context, or the text does not fit.
    """
    if (context_id is None) == (text is None):
        raise UsageError("this is about one context: give context_id or text")
    if text is not None:
        return reopened.context(text).ids
    run = reopened.run
    number = check_number("context", context_id, run.n_contexts, f"the run '{run.run_id}'")
    with open_store(reopened.store) as store:
        found = stored_contexts(store, run, [number])
    if not found:
        raise UsageError(f"the context {number} is in no complete shard of '{run.run_id}'")
    return found[0][0]


def read_layer(reopened: Reopened, weights: HeadWeights, ids: list[int], layer: int) -> LayerHeads:
    """What the heads of one layer do in one context."""
    shown: list[LayerHeads] = []
    batch = torch.tensor([ids])
    mask = torch.ones_like(batch).bool()
    read_patterns(reopened.model, weights, batch, mask, shown.append, layer)
    return shown[layer]


def sources(reopened: Reopened, asked: SourcesRequest, progress: Progress) -> SourcesResult:
    """Which tokens of a context made a feature of an attention-output SAE fire.

    Raises:
        UsageError: there is no such context, SAE, feature or position, or the feature is silent.
    """
    sae = reopened.sae(asked.sae_id)
    check_number("feature", asked.feature_id, sae.d_sae, f"the SAE '{sae.sae_id}'")
    ids = context_ids(reopened, asked.context_id, asked.text)
    at = asked.position + len(ids) if asked.position < 0 else asked.position
    check_number("position", at, len(ids), "the context")
    found = source_shares(reopened.model, sae, torch.tensor(ids), at, asked.feature_id)
    return SourcesResult(
        tokens=[reopened.label(i) for i in ids[: at + 1]],
        activation=found.activation,
        rest=found.rest,
        shares=found.shares.tolist(),
    )
