"""The settings of a training on an SAE of a few inputs: what sae-lens cannot do with them is known
before a model is loaded."""

import math
import warnings
from dataclasses import replace

import torch

from energylens.errors import UsageError
from energylens.lens.checkpoints import reason_of
from energylens.training.saes.config import Plan, SaeTrainingConfig, plans_of
from energylens.training.saes.trainee import Trainee

_WIDTH, _ROWS, _STEPS = 8, 32, 3


def try_settings(config: SaeTrainingConfig) -> None:
    """Take a few steps of every SAE that is asked for, at one hook, on random numbers.

    Raises:
        UsageError: what was asked for does not fit together, or sae-lens cannot train it.
    """
    for plan in plans_of(replace(config, hook_names=config.hook_names[:1])):
        trainee = Trainee(plan, _WIDTH, config)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they come again where it trains
                failed = _failure(trainee)
        except (RuntimeError, ValueError, TypeError, ArithmeticError, AssertionError) as error:
            raise UsageError(_sentence(plan, reason_of(error).rstrip("."))) from error
        if failed is not None:
            raise UsageError(_sentence(plan, failed))


def _failure(trainee: Trainee) -> str | None:
    sample = torch.randn(_ROWS, _WIDTH, generator=torch.Generator().manual_seed(0))
    trainee.begin(sample)
    for step in range(_STEPS):
        if step == 1:  # the loss that dead features have, too
            trainee.trainer.n_forward_passes_since_fired.fill_(math.inf)
        loss = trainee.step(sample)
        if not math.isfinite(loss):
            return f"the loss of its first steps is {loss}"
    return None if trainee.is_finite() else "the first gradients are no numbers"


def _sentence(plan: Plan, reason: str) -> str:
    given = plan.settings.sae | plan.settings.trainer
    said = ", ".join(f"{name} {value}" for name, value in given.items())
    return (
        f"'{plan.settings.architecture}' cannot be trained with {said}: {reason}; give other "
        "values with --set"
    )
