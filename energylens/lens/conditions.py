"""Tokens at which an edit acts, told by what an SAE reads of them in the pass that is edited.

A condition and an edit may stand at different hooks and SAEs. What is read of a token decides for
that token alone, so it must be computed before the edit is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from energylens.errors import UsageError
from energylens.lens.gate import encode_tokens
from energylens.lens.models import EnoughError, LanguageModel, run_until_enough
from energylens.lens.saes import Sae

Test = Callable[[Any, Any], Any]
"""Compares what is read with a threshold."""


@dataclass(frozen=True)
class Trigger:
    """Says of each token whether an edit acts at it."""

    sae: Sae
    holds: Callable[[Float[Tensor, "n d_sae"]], Bool[Tensor, " n"]]
    """From the codes of tokens."""

    def mask(
        self, value: Float[Tensor, "batch pos *d_in"], mask: Bool[Tensor, "batch pos"]
    ) -> Bool[Tensor, "batch pos"]:
        """Where it holds among the real tokens of a batch; `value` is of the SAE's hook."""
        found = torch.zeros_like(mask)
        found[mask] = self.holds(encode_tokens(self.sae, value, mask).float())
        return found


def feature_trigger(sae: Sae, feature_id: int, test: Test, threshold: float) -> Trigger:
    """Where the activation of one feature passes a test.

    Raises:
        UsageError: the SAE has no such feature.
    """
    if not 0 <= feature_id < sae.d_sae:
        raise UsageError(
            f"the condition reads a feature that does not exist: '{sae.sae_id}' has features 0 to "
            f"{sae.d_sae - 1}, not {feature_id}"
        )
    return Trigger(sae, lambda codes: test(codes[:, feature_id], threshold))


def linear_trigger(
    sae: Sae, weights: Float[Tensor, " d_sae"], bias: float, test: Test, threshold: float
) -> Trigger:
    """Where a linear function of the codes passes a test."""
    return Trigger(sae, lambda codes: test(codes @ weights + bias, threshold))


def check_before(model: LanguageModel, read: str, edited: str) -> None:
    """Make sure that a pass computes one hook before another, or that they are the same.

    Raises:
        UsageError: it computes it after.
    """
    first: list[str] = []

    def seen(name: str) -> Callable[..., None]:
        def note(value: Tensor, hook: Any) -> None:
            first.append(name)
            raise EnoughError

        return note

    if read != edited:
        ids = model.sample
        hooks = [(name, seen(name)) for name in (read, edited)]
        run_until_enough(model, ids, torch.ones_like(ids), hooks)
    if first == [edited]:
        raise UsageError(
            f"the condition reads '{read}', which the model computes only after '{edited}', where "
            "the edit is made; take an SAE for the condition that reads there or earlier"
        )
