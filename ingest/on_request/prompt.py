"""Read a text on request: tokens, energies at every layer, features, routing."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from energylens.ingest.measure import Measured
from energylens.ingest.on_request.applied_gains import applied
from energylens.ingest.on_request.as_run import keep
from energylens.ingest.on_request.reopen import Reopened
from energylens.lens.interventions import Intervention
from energylens.protocol import (
    ChoiceReading,
    FeatureReading,
    PromptRequest,
    PromptResult,
    Reading,
    TokenReading,
)


def prompt(reopened: Reopened, asked: PromptRequest) -> PromptResult:
    """Run one text, or two beside each other.

    Raises:
        UsageError: a text is empty or longer than a context, or the gains do not fit the run.
    """
    texts = [asked.text] if asked.other is None else [asked.text, asked.other]
    change = None
    if asked.gains is not None:
        found = applied(reopened, asked.gains)
        asked = replace(asked, gains=found.told)
        change = Intervention(found.sae, found.change, reopened.model.bos_id)
    measured = [
        reopened.measure([reopened.context(text, i)], change) for i, text in enumerate(texts)
    ]
    readings = [reading(reopened, one, asked.top) for one in measured]
    return PromptResult(
        reading=readings[0],
        other=readings[1] if len(readings) > 1 else None,
        kept_as=keep(reopened, "prompt", asked, measured) if asked.keep else None,
    )


def reading(reopened: Reopened, measured: Measured, top: int) -> Reading:
    """One context's measurements as a record; `top` features a token and SAE."""
    return Reading(
        layers=list(measured.lens),
        tokens=list(_tokens(reopened, measured)),
        features=list(_features(measured, top)),
        choices=list(_choices(reopened, measured)),
    )


def labels(reopened: Reopened, measured: Measured) -> list[str]:
    """How each token of a context reads."""
    (context,) = measured.contexts
    return [
        reopened.label(vocab_id) if piece is None else piece.label
        for piece, vocab_id in zip(context.pieces, context.ids, strict=True)
    ]


def or_none(value: float) -> float | None:
    """NaN as None."""
    return None if np.isnan(value) else float(value)


def _tokens(reopened: Reopened, measured: Measured) -> Iterator[TokenReading]:
    (context,) = measured.contexts
    output = measured.output
    assert output is not None, "a reopened run reads the output"
    for pos, (label, vocab_id) in enumerate(
        zip(labels(reopened, measured), context.ids, strict=True)
    ):
        yield TokenReading(
            pos=pos,
            token=label,
            vocab_id=vocab_id,
            energy=or_none(float(output.energy[pos])),
            entropy=float(output.entropy[pos]),
            energies=[or_none(float(one.energy[pos])) for one in measured.lens.values()],
            continuations=[
                reopened.label(int(one.top_vocab_id[pos])) for one in measured.lens.values()
            ],
        )


def _features(measured: Measured, top: int) -> Iterator[FeatureReading]:
    for sae_id, codes in measured.codes.items():
        order = np.lexsort((codes.feature_id, -codes.activation, codes.token))
        token = codes.token[order]
        rank = np.arange(len(token)) - np.searchsorted(token, token)
        for i in order[rank < top]:
            yield FeatureReading(
                sae_id, int(codes.token[i]), int(codes.feature_id[i]), float(codes.activation[i])
            )


def _choices(reopened: Reopened, measured: Measured) -> Iterator[ChoiceReading]:
    for router in reopened.instruments.routers:
        found = measured.routes[router.name]
        for pos, (ids, weights) in enumerate(
            zip(found.choice_ids.tolist(), found.weights.tolist(), strict=True)
        ):
            yield ChoiceReading(router.name, router.layer, pos, ids, weights)


def summed_codes(measured: Measured, sae_id: str, d_sae: int) -> torch.Tensor:
    """[d_sae]: each feature's activation summed over the context."""
    codes = measured.codes[sae_id]
    sums = np.bincount(codes.feature_id, codes.activation.astype(np.float64), d_sae)
    return torch.from_numpy(sums)
