"""Architectures of SAEs as sae-lens registers them, and their settings from a command line.

Nothing here knows an architecture by name: what sae-lens adds to its registry is trained like the
rest, and takes what its own configuration has fields for.
"""

import copy
import difflib
import math
import typing
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import msgspec
import sae_lens  # fills the registry  # noqa: F401
import torch
from sae_lens.config import SAETrainerConfig
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY, get_sae_training_class
from sae_lens.saes.sae import SAEMetadata, TrainingSAE, TrainingSAEConfig

from energylens.errors import UsageError
from energylens.training.saes.bounds import too_large

SHORT = {"k": "k", "l1": "l1_coefficient"}
"""Options of the command line that many architectures share, and the fields they stand for."""
DEFAULTS = {"k": 32, "normalize_activations": "expected_average_only_in"}
"""Where a configuration has the field and nothing is asked; the rest is sae-lens' own."""
_NOT_SET = {"d_in", "d_sae", "dtype", "device", "metadata", "reshape_activations"}
"""Fields that follow from the hook and from options of their own."""
_TRAINER = (
    "lr_end",
    "lr_scheduler_name",
    "lr_decay_steps",
    "n_restart_cycles",
    "adam_beta1",
    "adam_beta2",
    "dead_feature_window",
)
"""Fields of sae-lens' trainer that may be set beside those of the architecture."""


@dataclass(frozen=True)
class Settings:
    """What was asked of one SAE, typed and under the names of sae-lens' fields."""

    architecture: str
    sae: dict[str, Any]
    trainer: dict[str, Any]


def architectures() -> list[str]:
    """What sae-lens trains, by name."""
    return sorted(SAE_TRAINING_CLASS_REGISTRY)


def settings_of(
    architecture: str, options: Mapping[str, float | None], assigned: Mapping[str, str]
) -> Settings:
    """Settings from the short options (None where not given) and from `--set NAME=VALUE`.

    Raises:
        UsageError: there is no such architecture or field, or a value is not of the field's type.
    """
    config = _config_class(architecture)
    takes = _own_fields(config)
    trainer = {name: typing.get_type_hints(SAETrainerConfig)[name] for name in _TRAINER}
    sae = {name: value for name, value in DEFAULTS.items() if name in takes}
    given: dict[str, Any] = {}
    for option, value in options.items():
        if value is not None:
            field = SHORT[option]
            if field not in takes:
                raise UsageError(_no_option(option, architecture, takes))
            sae[field] = _typed(f"--{option} {value:g}", f"{value:g}", takes[field])
    for name, text in assigned.items():
        said = f"--set {name}={text}"
        if name in takes:
            sae[name] = _typed(said, text, takes[name])
        elif name in trainer:
            given[name] = _typed(said, text, trainer[name])
        else:
            raise UsageError(_no_field(name, architecture, [*takes, *trainer]))
    missing = [
        f.name
        for f in fields(config)
        if f.name in takes and f.default is MISSING and f.default_factory is MISSING
    ]
    for name in missing:
        if name not in sae:
            raise UsageError(f"'{architecture}' needs --set {name}=...; sae-lens has no default")
    return Settings(architecture, sae, given)


def build_sae(settings: Settings, d_in: int, d_sae: int, seed: int) -> TrainingSAE[Any]:
    """An SAE with fresh weights, in float32; `seed` alone decides them.

    Raises:
        UsageError: sae-lens refuses the settings, would train with others, or memory is too small.
    """
    made, config = get_sae_training_class(settings.architecture)
    asked = copy.deepcopy(settings.sae)
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it changes is compared below
            sae = made(config(d_in=d_in, d_sae=d_sae, metadata=SAEMetadata(), **asked))
    except (ValueError, TypeError, AssertionError, RuntimeError) as error:
        if "allocate memory" in str(error):
            raise too_large(d_sae) from error
        names, reason = ", ".join(_own_fields(config)), str(error).rstrip(".")
        raise UsageError(
            f"sae-lens refuses these settings of '{settings.architecture}': {reason}; "
            f"settings are given as --set NAME=VALUE: {names}"
        ) from error
    for name, value in settings.sae.items():
        found = getattr(sae.cfg, name)
        if found != value:
            raise UsageError(
                f"sae-lens trains '{settings.architecture}' with {name} {found}, not {value}; "
                f"give --set {name}={msgspec.json.encode(found).decode()}"
            )
    return sae


def _config_class(architecture: str) -> type[TrainingSAEConfig]:
    if architecture not in SAE_TRAINING_CLASS_REGISTRY:
        known = architectures()
        close = difflib.get_close_matches(architecture, known, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(close)}? It" if close else "it"
        raise UsageError(
            f"sae-lens trains no architecture '{architecture}'; {hint} trains {', '.join(known)}"
        )
    return get_sae_training_class(architecture)[1]


def _own_fields(config: type[TrainingSAEConfig]) -> dict[str, Any]:
    """Fields that may be set, with their types."""
    hints = typing.get_type_hints(config)
    return {f.name: hints[f.name] for f in fields(config) if f.init and f.name not in _NOT_SET}


def _typed(said: str, text: str, kind: Any) -> Any:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        value = text
    try:
        found = msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"{said} cannot be taken: {error}") from None
    if isinstance(found, float) and not math.isfinite(found):
        raise UsageError(f"{said} cannot be taken: a finite number is needed")
    return found


def _no_option(option: str, architecture: str, takes: Mapping[str, Any]) -> str:
    others = [name for name, field in SHORT.items() if field in takes]
    instead = [f"--{name}" for name in others]
    instead += [f"--set {name}=..." for name in takes if name.endswith("0_coefficient")]
    hint = f"; it takes {' and '.join(instead)}" if instead else ""
    return f"the architecture '{architecture}' has no {SHORT[option]}, so no --{option}{hint}"


def _no_field(name: str, architecture: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(known)}"
    return f"the architecture '{architecture}' has no setting '{name}'; {hint}"
