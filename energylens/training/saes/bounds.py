"""Between what numbers a setting lies, by the kind of its field: what its name ends in."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from energylens.errors import UsageError

_OF_FEATURES = ("k", "target_l0", "max_iterations")
"""How many features a token has."""
_OF_STEPS = ("_steps", "_cycles")
_SHARES = ("_lr", "adam_beta1", "adam_beta2")
"""How much of a running mean is new, or old."""
_MAY_BE_ZERO = ("_steps", *_SHARES, "_coefficient", "lr_end", "residual_threshold")
"""Any other number that is 0 takes away what it is a measure of."""
_LARGEST_WHOLE = 2**63 - 1
_LARGEST = 2.0**24
"""float32 has 24 bits: of what stands beside a larger number nothing is left."""

_BYTES = 4
"""Of a number in float32."""


@dataclass(frozen=True)
class Limits:
    """What the rest of a training leaves to the numbers of its settings."""

    d_sae: int
    n_steps: int
    learning_rate: float


def check_numbers(settings: Mapping[str, Any], typed: Mapping[str, str], limits: Limits) -> None:
    """Make sure that every number can be what its field is.

    `typed` is how a field is given on a command line, where that is not `--set`.

    Raises:
        UsageError: one cannot.
    """
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        said = f"{typed[name]} {value:g}" if name in typed else f"--set {name}={value:g}"
        most, why = _most(name, value, limits)
        if not 0 <= value <= most:
            raise UsageError(f"{said} is outside 0 to {most:,.15g}, {why}")
        if value == 0 and not name.endswith(_MAY_BE_ZERO):
            least = "1 or more" if isinstance(value, int) else "more"
            raise UsageError(f"{said} is not above 0; give {least}")


def _most(name: str, value: int | float, limits: Limits) -> tuple[int | float, str]:
    """The largest number that a field may be, and what that is."""
    if name in _OF_FEATURES:
        return limits.d_sae, "the features of the SAE"
    if name.endswith(_OF_STEPS):
        return limits.n_steps, "the steps of this training"
    if name.endswith(_SHARES):
        return 1.0, "since it is a share"
    if name == "lr_end":
        return limits.learning_rate, "the learning rate at its top"
    if isinstance(value, int):
        return _LARGEST_WHOLE, "the largest whole number there is room for"
    return _LARGEST, "the largest that float32 adds anything to"


def check_memory(d_sae: int, d_in: int, batch_size: int) -> None:
    """Make sure that weights, gradients and both moments, and the codes of a batch with their
    gradient, are no larger than this machine's memory.

    Raises:
        UsageError: they are; a system may end the process where it runs out.
    """
    needed = _BYTES * d_sae * (4 * 2 * d_in + 2 * batch_size)
    if needed > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise too_large(d_sae)


def too_large(d_sae: int) -> UsageError:
    """What is said of an SAE that there is no room for."""
    return UsageError(
        f"an SAE of {d_sae:,} features does not fit into the memory of this machine; give fewer "
        "with --d-sae, or a smaller --batch"
    )
