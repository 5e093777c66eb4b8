"""Settings that cannot be are said before anything is loaded, whatever field they are given to."""

import math
import typing
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from sae_lens.config import SAETrainerConfig
from sae_lens.registry import get_sae_training_class

from energylens.errors import UsageError
from energylens.training.saes.architectures import architectures
from energylens.training.saes.trial import try_settings
from tests.training_saes import SETTINGS, config_of

_TRAINER = {
    "lr_end", "lr_decay_steps", "n_restart_cycles", "adam_beta1", "adam_beta2",
    "dead_feature_window",
}  # fmt: skip
_ZERO_MEANS_SOMETHING = {
    "aux_loss_coefficient", "l0_coefficient", "l1_coefficient", "pre_act_loss_coefficient",
    "l0_warm_up_steps", "l1_warm_up_steps", "lr_decay_steps", "topk_threshold_lr", "lr_end",
    "adam_beta1", "adam_beta2", "residual_threshold",
}  # fmt: skip
_ANY_LENGTH = {"dead_feature_window"}
"""A window that is longer than the training turns off what it is for."""


def _numbers() -> Iterator[tuple[str, str]]:
    """Every number that may be set, of every architecture."""
    for architecture in architectures():
        config = get_sae_training_class(architecture)[1]
        hints = typing.get_type_hints(config)
        for name in [f.name for f in fields(config) if f.name not in ("d_in", "d_sae")]:
            if {int, float} & {hints[name], *typing.get_args(hints[name])}:
                yield architecture, name
    hints = typing.get_type_hints(SAETrainerConfig)
    assert hints.keys() >= _TRAINER
    yield from (("topk", name) for name in sorted(_TRAINER))


def _refusal(architecture: str, **settings: str) -> str | None:
    config = config_of(architecture, settings=SETTINGS.get(architecture, {}) | settings)
    try:
        try_settings(replace(config, k=None if "k" in settings else config.k))
    except UsageError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("architecture", "name"), list(_numbers()))
def test_no_number_is_taken_that_cannot_be(architecture: str, name: str) -> None:
    for value in ("-1", "nan", "inf", "-inf", "1e300", "1e30", str(10**30)):
        said = _refusal(architecture, **{name: value})
        assert said is not None, f"{name}={value} is taken"
        assert name in said or (name == "l1_coefficient" and "--l1 " in said)
    huge = _refusal(architecture, **{name: str(10**15)})
    assert (huge is None) == (name in _ANY_LENGTH), huge
    zero = _refusal(architecture, **{name: "0"})
    assert (zero is None) == (name in _ZERO_MEANS_SOMETHING), zero


@pytest.mark.parametrize("architecture", architectures())
def test_what_can_be_trained_is_not_refused(architecture: str) -> None:
    try_settings(config_of(architecture))


@pytest.mark.parametrize(
    ("architecture", "settings", "said"),
    [
        ("topk", {"use_sparse_activations": "true"}, "'topk' cannot be trained with"),
        ("topk", {"normalize_activations": "layer_norm"}, "does not support activation norm"),
        ("matryoshka_batchtopk", {"matryoshka_widths": "[]"}, "widths must not be empty"),
        (
            "topk",
            {"lr_scheduler_name": "cosineannealingwarmrestarts", "n_restart_cycles": "60"},
            "refuses --set lr_scheduler_name=cosineannealingwarmrestarts, n_restart_cycles=60",
        ),
        ("topk", {"n_restart_cycles": "2"}, "n_restart_cycles means nothing without restarts"),
    ],
)
def test_what_sae_lens_only_fails_at_in_a_step_is_said_before(
    architecture: str, settings: dict[str, str], said: str
) -> None:
    found = _refusal(architecture, **settings)
    assert found is not None and said in found and "\n" not in found


def test_widths_are_needed_where_sae_lens_has_none() -> None:
    with pytest.raises(UsageError, match="matryoshka_widths must not be empty") as raised:
        try_settings(config_of("matryoshka_batchtopk", settings={}))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"k": 4.0, "settings": {"k": "5"}}, "--k and --set k give the same setting"),
        ({"k": 4.0, "sweep": {"k": (5.0,)}}, "--k and --sweep k give the same setting"),
        ({"settings": {"aux_loss_coefficient": "1"}, "sweep": {"aux_loss_coefficient": (2.0,)}},
         "--set aux_loss_coefficient and --sweep aux_loss_coefficient give"),
        ({"resample_every": 1, "architecture": "standard", "k": None}, "outside 2 to 60"),
        ({"resample_every": 61, "architecture": "standard", "k": None}, "outside 2 to 60"),
    ],
)  # fmt: skip
def test_nothing_that_is_given_is_passed_over(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        try_settings(replace(config_of(), **changes))


def test_a_loss_that_is_no_number_is_found_in_the_first_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = get_sae_training_class("standard")[0]

    def spoilt(self: Any, *_: Any, **__: Any) -> dict[str, torch.Tensor]:
        return {"l1_loss": self.W_dec.sum() * math.inf}

    monkeypatch.setattr(made, "calculate_aux_loss", spoilt)
    said = _refusal("standard")
    assert said is not None and "the loss of its first steps is" in said


@pytest.mark.parametrize(("d_sae", "batch"), [(10**9, 1), (10**7, 10**5)])
def test_what_no_memory_holds_is_not_tried(d_sae: int, batch: int) -> None:
    config = config_of("standard", d_sae=d_sae, batch_size=batch, n_tokens=batch)
    with pytest.raises(UsageError, match=f"an SAE of {d_sae:,} features does not fit"):
        try_settings(config)
