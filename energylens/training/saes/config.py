"""What a training of SAEs is asked to be, and the SAEs that come of it."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from energylens.errors import UsageError
from energylens.training.saes.architectures import SHORT, Settings, settings_of
from energylens.training.saes.bounds import Limits, check_numbers

BLOCK_TOKENS = 1 << 16
"""Activations of so many tokens are mixed and then trained on."""
MOST_SEED = 2**63 - 1
DEAD_TOKENS = 1_000_000
"""A feature that has not fired in so many tokens is dead; in half the budget where that is less."""


@dataclass(frozen=True)
class SaeTrainingConfig:
    """What the SAEs are to be and how long they are trained."""

    hook_names: tuple[str, ...]
    architecture: str = "batchtopk"
    d_sae: int = 1024
    n_tokens: int = 2_000_000
    """Budget: activations each SAE is trained on."""
    k: float | None = None
    l1: float | None = None
    learning_rate: float = 1e-3
    warm_up: int | None = None
    """Steps; None takes a tenth of all, 100 at most."""
    batch_size: int = 2048
    """Activations in a step."""
    seed: int = 0
    settings: dict[str, str] = field(default_factory=dict)
    """More of the architecture's and the trainer's fields, as they were typed."""
    sweep: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Values of k, l1, d_sae, lr or a setting; each combination is an SAE of its own."""
    resample_every: int = 0
    """Steps between two resamplings of dead features; 0 for never."""
    autocast: bool = False
    """Whether the SAEs' own steps are computed in bfloat16."""
    block_tokens: int = BLOCK_TOKENS

    @property
    def n_steps(self) -> int:
        """Optimiser steps within the budget."""
        return self.n_tokens // self.batch_size

    @property
    def warm_up_steps(self) -> int:
        """Steps in which the learning rate rises."""
        return min(100, self.n_steps // 10) if self.warm_up is None else self.warm_up

    @property
    def dead_steps(self) -> int:
        """A feature that has not fired in so many steps is dead."""
        return max(1, min(DEAD_TOKENS, self.n_tokens // 2) // self.batch_size)


@dataclass(frozen=True)
class Plan:
    """One SAE of a training."""

    name: str
    """Its folder: the hook, and what the sweep gives it."""
    hook_name: str
    d_sae: int
    learning_rate: float
    settings: Settings
    swept: dict[str, float]
    """Its values of what is swept."""


def plans_of(config: SaeTrainingConfig) -> list[Plan]:
    """The SAEs of a training: every hook with every combination of the sweep's values.

    Raises:
        UsageError: something asked for does not fit together.
    """
    _check(config)
    return [
        _plan(config, hook, swept)
        for hook in config.hook_names
        for swept in _combinations(config.sweep)
    ]


def _check(config: SaeTrainingConfig) -> None:
    if not config.hook_names:
        raise UsageError("an SAE is trained at a hook: give --hook")
    twice = [hook for hook in config.hook_names if config.hook_names.count(hook) > 1]
    if twice:
        raise UsageError(f"the hook '{twice[0]}' is given twice")
    if config.batch_size < 1:
        raise UsageError(f"--batch is {config.batch_size}; a step needs at least one activation")
    if config.n_steps < 1:
        raise UsageError(
            f"a budget of {config.n_tokens:,} tokens is less than one batch of "
            f"{config.batch_size:,}; give more with --n-tokens, or a smaller --batch"
        )
    if not 0 <= config.warm_up_steps <= config.n_steps:
        raise UsageError(
            f"--warmup {config.warm_up_steps:,} is outside 0 to {config.n_steps:,}, the steps of "
            "this training"
        )
    if not 0 <= config.seed <= MOST_SEED:
        raise UsageError(f"--seed {config.seed} is outside 0 to {MOST_SEED}")
    if config.resample_every and not 2 <= config.resample_every <= config.n_steps:
        raise UsageError(
            f"--resample {config.resample_every} is outside 2 to {config.n_steps:,}, the steps of "
            "this training; give 0 for never"
        )
    _check_once(config)
    if config.resample_every and config.architecture != "standard":
        raise UsageError(
            f"--resample is for the architecture 'standard'; '{config.architecture}' has other "
            "means against dead features"
        )


def _check_once(config: SaeTrainingConfig) -> None:
    """No value is given in two ways, one of which would be passed over."""
    given = {f"--{option}": field for option, field in SHORT.items() if _is_given(config, option)}
    given |= {f"--set {name}": name for name in config.settings}
    given |= {f"--sweep {name}": SHORT.get(name, name) for name in config.sweep}
    for name in given.values():
        same = [said for said, other in given.items() if other == name]
        if len(same) > 1:
            raise UsageError(f"{' and '.join(same)} give the same setting; give one of them")


def _is_given(config: SaeTrainingConfig, option: str) -> bool:
    return getattr(config, option) is not None


def _combinations(sweep: Mapping[str, tuple[float, ...]]) -> Iterator[dict[str, float]]:
    for name, values in sweep.items():
        if len(set(values)) < len(values):
            raise UsageError(f"--sweep {name} gives a value twice")
    for values in itertools.product(*sweep.values()):
        yield dict(zip(sweep, values, strict=True))


def _plan(config: SaeTrainingConfig, hook: str, swept: dict[str, float]) -> Plan:
    rest = dict(swept)
    d_sae = rest.pop("d_sae", config.d_sae)
    learning_rate = rest.pop("lr", config.learning_rate)
    options = {name: rest.pop(name, getattr(config, name)) for name in SHORT}
    assigned = config.settings | {name: f"{value:g}" for name, value in rest.items()}
    settings = settings_of(config.architecture, options, assigned)
    if not (math.isfinite(d_sae) and d_sae == int(d_sae) and d_sae >= 1):
        raise UsageError(f"--d-sae {d_sae:g} is no number of features; give 1 or more")
    if not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise UsageError(f"--lr {learning_rate:g} is no learning rate; give one above 0")
    limits = Limits(int(d_sae), config.n_steps, learning_rate)
    typed = {field: f"--{option}" for option, field in SHORT.items()}
    check_numbers(settings.sae | settings.trainer, typed, limits)
    _check_widths(settings, int(d_sae))
    values = [f"{name}={value:g}" for name, value in swept.items()]
    return Plan(",".join([hook, *values]), hook, int(d_sae), learning_rate, settings, swept)


def _check_widths(settings: Settings, d_sae: int) -> None:
    widths = settings.sae.get("matryoshka_widths") or []
    edges = [0, *widths, d_sae + 1]
    if any(low >= high for low, high in itertools.pairwise(edges)):
        raise UsageError(
            f"matryoshka_widths {widths} do not fit: each has to be above the one before it, from "
            f"1 to {d_sae:,}, the features of the SAE; give others with --set, or a larger --d-sae"
        )
