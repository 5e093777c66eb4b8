"""Explain one prediction, or one feature, by the features of an SAE."""

import torch
from torch import Tensor

from energylens.errors import UsageError
from energylens.ingest.on_request.attention import context_ids
from energylens.ingest.on_request.reopen import Reopened, token_id
from energylens.ingest.progress import Progress
from energylens.lens.attribution import (
    Attributor,
    FeatureMetric,
    Metric,
    Prediction,
    agreement,
    curve,
)
from energylens.lens.models import run_hooks
from energylens.protocol import (
    AttributionRequest,
    AttributionResult,
    Curve,
    FeatureAttribution,
)

_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


def attribute(
    reopened: Reopened, asked: AttributionRequest, progress: Progress
) -> AttributionResult:
    """Every active feature by gradient and direct attribution, the top ones by ablation too.

    Raises:
        UsageError: the text does not fit a context, or what is to be explained is not there.
    """
    sae = reopened.sae(asked.sae_id)
    ids = context_ids(reopened, asked.context_id, asked.text or None)
    position = position_in(asked.position, len(ids))
    metric, words = metric_of(reopened, asked, ids, position)
    one = Attributor(reopened.model, sae, torch.tensor(ids), metric)
    codes, slope = one.gradients()
    counted = counted_tokens(reopened, ids)
    gradient = (codes * slope * counted[:, None]).sum(0)
    active = (codes * counted[:, None]).count_nonzero(0)
    direct = one.direct()
    order = [f for f in gradient.abs().argsort(descending=True).tolist() if int(active[f])]
    whole = one.value()
    top = order[: max(0, asked.top)]
    ablated: dict[int, float] = {}
    for number, feature in enumerate(top):
        progress.step("ablations", number, len(top), "features")
        ablated[feature] = whole - one.without([feature])
    sizes = [n for n in _SIZES if n < len(order)] + [len(order)]
    faithful, complete = curve(one, order, sizes)
    return AttributionResult(
        metric=words,
        tokens=[reopened.label(i) for i in ids],
        position=position,
        value=whole,
        without_features=one.keeping(()),
        features=[
            FeatureAttribution(
                feature_id=f,
                direct=None if direct is None else float(direct[f]),
                gradient=float(gradient[f]),
                ablation=ablated.get(f),
                n_active=int(active[f]),
            )
            for f in order
        ],
        agreement=_agreements(top, gradient, direct, ablated),
        curve=Curve(sizes, faithful, complete),
    )


def position_in(asked: int, n: int) -> int:
    """A place among n tokens, also counted from the end.

    Raises:
        UsageError: there is no such place.
    """
    position = asked + n if asked < 0 else asked
    if not 0 <= position < n:
        raise UsageError(f"the text has positions 0 to {n - 1}, not {asked}")
    return position


def metric_of(
    reopened: Reopened, asked: AttributionRequest, ids: list[int], position: int
) -> tuple[Metric, str]:
    """What is explained, and how it is called.

    Raises:
        UsageError: there is no such feature or token.
    """
    if (asked.other_sae_id is None) != (asked.other_feature_id is None):
        raise UsageError("a feature to explain is named by its SAE and its number, both")
    if asked.other_sae_id is not None and asked.other_feature_id is not None:
        other = reopened.sae(asked.other_sae_id)
        if not 0 <= asked.other_feature_id < other.d_sae:
            raise UsageError(
                f"'{other.sae_id}' has features 0 to {other.d_sae - 1}, not "
                f"{asked.other_feature_id}"
            )
        words = f"feature {asked.other_feature_id} of {other.sae_id} at position {position}"
        return FeatureMetric(other, asked.other_feature_id, position), words
    vocab_id = _target(reopened, asked, ids, position)
    words = f"logit of {reopened.label(vocab_id)!r} after position {position}, less the mean logit"
    return Prediction(position, vocab_id), words


def _target(reopened: Reopened, asked: AttributionRequest, ids: list[int], position: int) -> int:
    if asked.token is not None:
        return token_id(reopened, asked.token)
    if position + 1 < len(ids):
        return ids[position + 1]
    batch = torch.tensor([ids])
    logits, _ = run_hooks(reopened.model, batch, torch.ones_like(batch), ())
    assert logits is not None, "the pass was not stopped early"
    return int(logits[0, position].argmax())


def counted_tokens(reopened: Reopened, ids: list[int]) -> Tensor:
    """1 at the tokens an ablation acts on: all but BOS."""
    bos_id = reopened.model.bos_id
    return torch.tensor([0.0 if one == bos_id else 1.0 for one in ids])


def _agreements(
    top: list[int], gradient: Tensor, direct: Tensor | None, ablated: dict[int, float]
) -> dict[str, float | None]:
    exact = [ablated[f] for f in top]
    by_gradient = [float(gradient[f]) for f in top]
    found = {"gradient, ablation": agreement(by_gradient, exact)}
    if direct is not None:
        by_direct = [float(direct[f]) for f in top]
        found["direct, ablation"] = agreement(by_direct, exact)
        found["direct, gradient"] = agreement(by_direct, by_gradient)
    return found
