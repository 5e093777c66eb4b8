"""From a trained SAE to one that is stored as sae-lens stores it, and passes its own gate.

An SAE that keeps k features a token on average over a batch becomes a JumpReLU SAE with one
threshold. The running mean that training keeps of it begins at 0 and lags behind where training is
short, so it is set anew, to what keeps k features a token on activations not trained on. What the
others keep is measured there and declared.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from energylens.errors import TrainingError
from energylens.lens.gate import GateResult, GateSums
from energylens.lens.saes import Sae, load_saes
from energylens.training.saes.directory import UNDER_WAY
from energylens.training.saes.loop import Trained
from energylens.training.saes.trainee import Trainee

_ROWS = 1024
"""Tokens encoded at once."""


@dataclass(frozen=True)
class Saved:
    """A stored SAE and what was measured of it on activations it was not trained on."""

    name: str
    hook_name: str
    swept: dict[str, float]
    folder: Path
    measured: GateResult


def save_saes(
    trained: Trained, directory: Path, facts: dict[str, Any], float16: bool = False
) -> list[Saved]:
    """Write each SAE into a folder of its own; `facts` go into its metadata.

    `float16` stores the weights in half the size; whoever loads them computes in float32.

    Raises:
        TrainingError: one cannot be written.
    """
    try:
        saved = [_save(t, trained, directory, facts, float16) for t in trained.trainees]
        shutil.rmtree(directory / UNDER_WAY, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"cannot write the SAEs to '{directory}': {error}; the checkpoint there is whole: make "
            "room and repeat the command"
        ) from error
    return saved


def _save(
    trainee: Trainee, trained: Trained, directory: Path, facts: dict[str, Any], float16: bool
) -> Saved:
    plan, sae = trainee.plan, trainee.sae
    pool = trained.sample.pools[plan.hook_name]
    declared = set_threshold(trainee, pool)
    _fold(trainee)
    known: dict[str, Any] = {
        **facts,
        "hook_name": plan.hook_name,
        "training_tokens": trainee.trainer.n_training_samples,
    }
    for name, value in known.items():
        sae.cfg.metadata[name] = value
    partial, folder = directory / UNDER_WAY / plan.name, directory / plan.name
    shutil.rmtree(partial, ignore_errors=True)
    sae.save_inference_model(partial)
    if float16:
        path = partial / "sae_weights.safetensors"
        save_file({name: value.half() for name, value in load_file(path).items()}, path)
    (stored,) = load_saes([str(partial)])
    measured = measure(stored, pool)
    add_metadata(
        partial,
        declared_l0=measured.l0 if declared is None else declared,
        final={
            "l0": measured.l0,
            "fvu": measured.fvu,
            "n_dead": measured.n_dead,
            "n_tokens": measured.n_tokens,
        },
    )
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return Saved(plan.name, plan.hook_name, plan.swept, folder, measured)


def add_metadata(folder: Path, **known: Any) -> None:
    """Write more into the metadata of a stored SAE's cfg.json."""
    path = folder / "cfg.json"
    config = json.loads(path.read_text("utf-8"))
    config["metadata"] |= known
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(config), "utf-8")
    partial.replace(path)


@torch.no_grad()
def measure(sae: Sae, pool: Float[Tensor, "n d_in"]) -> GateResult:
    """The gate's figures on activations; an L0 is not held against it."""
    sums = GateSums(sae.d_sae)
    for x in pool.split(_ROWS):
        codes = sae.encode(x[None])
        sums.add(codes[0], sae.prepare(x), sae.decode(codes)[0])
    return sums.result(None, None)


@torch.no_grad()
def set_threshold(trainee: Trainee, pool: Float[Tensor, "n d_in"]) -> float | None:
    """Where an SAE has one threshold for all features, set it so that k of them are active a token
    over `pool`, and return k; None where it has none.

    The k n largest values are found in one reading, a few tokens at a time.
    """
    sae = trainee.sae
    if not isinstance(getattr(sae, "topk_threshold", None), Tensor):
        return None
    k = float(sae.cfg.k)
    wanted = max(1, round(k * len(pool)))
    largest = torch.zeros(0)
    for x in pool.split(_ROWS):
        _, before = sae.encode_with_hidden_pre(trainee.trainer.activation_scaler(x))
        found = torch.cat([largest, before[before > 0].float()])
        largest = found.topk(min(len(found), wanted + 1)).values
    is_enough = len(largest) > wanted
    threshold = float(largest[wanted - 1 : wanted + 1].double().mean()) if is_enough else 0.0
    sae.topk_threshold.fill_(threshold)
    return k


def _fold(trainee: Trainee) -> None:
    """Let the weights take activations as the model computes them."""
    scaler = trainee.trainer.activation_scaler
    if scaler.whitening is not None:
        white = scaler.whitening
        trainee.sae.fold_activation_whitening(
            mean=white.mean,
            whitening_matrix=white.matrix,
            unwhitening_matrix=white.inverse_matrix,
        )
    if scaler.scaling_factor is not None:
        trainee.sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
