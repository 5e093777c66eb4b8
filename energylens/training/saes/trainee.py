"""One SAE that is trained, by sae-lens' own trainer, and what is known of how it does."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from sae_lens import LoggingConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from sae_lens.training.activation_scaler import ActivationWhitening
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

from energylens.errors import TrainingError, UsageError
from energylens.lens.gate import GateSums, times_active
from energylens.training.checkpoint import load_moments, moments
from energylens.training.saes.architectures import build_sae
from energylens.training.saes.bounds import check_memory
from energylens.training.saes.config import Plan, SaeTrainingConfig


@dataclass(frozen=True)
class Figures:
    """How one SAE does, over the steps since the last record."""

    name: str
    loss: float
    parts: dict[str, float]
    """The loss's terms, as sae-lens calls them."""
    l0: float
    fvu: float
    """Unexplained variance about the mean, as the gate measures it."""
    dead_share: float
    """Features that have not fired for as long as makes one dead."""
    learning_rate: float


class Trainee:
    """An SAE, its trainer, and running sums."""

    def __init__(self, plan: Plan, d_in: int, config: SaeTrainingConfig) -> None:
        """Fresh weights.

        Raises:
            UsageError: sae-lens refuses the settings, or memory is too small.
        """
        self.plan, self._dead_steps = plan, config.dead_steps
        check_memory(plan.d_sae, d_in, config.batch_size)
        sae = build_sae(plan.settings, d_in, plan.d_sae, config.seed)
        try:
            self.trainer: SAETrainer[Any, Any] = SAETrainer(
                cfg=_trainer_config(plan, config), sae=sae, data_provider=iter(())
            )
        except (ValueError, TypeError, ArithmeticError, AssertionError) as error:
            given = ", ".join(f"{name}={value}" for name, value in plan.settings.trainer.items())
            raise UsageError(
                f"sae-lens' trainer refuses --set {given}: {str(error).rstrip('.')}; give another "
                "value, or leave it out"
            ) from error
        self._forward = sae.training_forward_pass
        sae.training_forward_pass = self._counted
        self.restart()

    @property
    def sae(self) -> Any:
        """The SAE itself, a TrainingSAE."""
        return self.trainer.sae

    def begin(self, sample: Float[Tensor, "n d_in"]) -> None:
        """Take scale and centre from the first activations."""
        scaler, kind = self.trainer.activation_scaler, self.sae.cfg.normalize_activations
        if kind == "expected_average_only_in":
            scaler.scaling_factor = sample.shape[1] ** 0.5 / float(sample.norm(dim=1).mean())
        elif kind == "covariance_whitening":
            scaler.estimate_whitening(sample.shape[1], iter([sample]), 1)
        with torch.no_grad():
            self.sae.b_dec.copy_(scaler(sample).mean(0))

    def step(self, batch: Float[Tensor, "batch d_in"]) -> float:
        """One step of the optimiser; the loss."""
        out = self.trainer.step(batch)
        self.trainer.n_training_steps += 1
        loss = out.loss.item()
        self._losses.append(loss)
        for name, value in out.losses.items():
            self._parts[name] = self._parts.get(name, 0.0) + value.item()
        with torch.no_grad():
            unscaled = self.trainer.activation_scaler.unscale(out.sae_out.detach().float())
            self._sums.add_counted(self._active, batch, unscaled)
        return loss

    def _counted(self, step_input: TrainStepInput) -> TrainStepOutput:
        """sae-lens' forward pass with counts in place of codes: its trainer would hold them and
        more of their size until the gradients are made, to know only which features fired."""
        out = self._forward(step_input=step_input)
        codes = out.feature_acts.detach()
        self._active = times_active(codes.to_dense() if codes.is_sparse else codes)
        counts = self._active[None].float()
        return replace(out, feature_acts=counts, hidden_pre=counts)

    def figures(self) -> Figures | None:
        """How it does since the last restart; None where no step was taken since."""
        n = len(self._losses)
        if not n:
            return None
        measured = self._sums.result(None, None)
        silent = self.trainer.n_forward_passes_since_fired >= self._dead_steps
        return Figures(
            name=self.plan.name,
            loss=sum(self._losses) / n,
            parts={name: value / n for name, value in self._parts.items()},
            l0=measured.l0,
            fvu=measured.fvu,
            dead_share=float(silent.float().mean()),
            learning_rate=float(self.trainer.optimizer.param_groups[0]["lr"]),
        )

    def restart(self) -> None:
        """Begin the sums anew."""
        self._losses: list[float] = []
        self._parts: dict[str, float] = {}
        self._sums = GateSums(self.plan.d_sae)

    def is_finite(self) -> bool:
        """Whether every weight is a number."""
        return all(bool(torch.isfinite(value).all()) for value in self.sae.state_dict().values())

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it."""
        weights = {
            f"sae.{name}": v.detach().contiguous() for name, v in self.sae.state_dict().items()
        }
        found = weights | moments(self.trainer.optimizer)
        found["silent"] = self.trainer.n_forward_passes_since_fired
        whitening = self.trainer.activation_scaler.whitening
        if whitening is not None:
            found |= {f"whitening.{name}": v.contiguous() for name, v in vars(whitening).items()}
        return found

    def words(self) -> str:
        """The rest of it, as JSON."""
        trainer = self.trainer
        return json.dumps(
            {
                "groups": trainer.optimizer.state_dict()["param_groups"],
                "rate": trainer.lr_scheduler.state_dict(),
                "coefficients": {
                    name: one.state_dict() for name, one in trainer.coefficient_schedulers.items()
                },
                "scale": trainer.activation_scaler.scaling_factor,
                "steps": trainer.n_training_steps,
                "samples": trainer.n_training_samples,
            }
        )

    def load(self, tensors: Mapping[str, Tensor], words: str) -> None:
        """Take over what a checkpoint holds.

        Raises:
            TrainingError: it is not of this SAE.
        """
        trainer, known = self.trainer, json.loads(words)
        named = {n.removeprefix("sae."): v for n, v in tensors.items() if n.startswith("sae.")}
        try:
            self.sae.load_state_dict(named)
        except RuntimeError as error:
            raise TrainingError(
                f"the checkpoint does not hold the SAE '{self.plan.name}': {error}; remove it to "
                "begin again"
            ) from error
        load_moments(trainer.optimizer, tensors)
        state = trainer.optimizer.state_dict()["state"]
        trainer.optimizer.load_state_dict({"state": state, "param_groups": known["groups"]})
        trainer.lr_scheduler.load_state_dict(known["rate"])
        for name, scheduler in trainer.coefficient_schedulers.items():
            scheduler.load_state_dict(known["coefficients"][name])
        trainer.n_forward_passes_since_fired = tensors["silent"].clone()
        trainer.activation_scaler.scaling_factor = known["scale"]
        white = {n.removeprefix("whitening."): v for n, v in tensors.items() if "whitening." in n}
        trainer.activation_scaler.whitening = ActivationWhitening(**white) if white else None
        trainer.n_training_steps, trainer.n_training_samples = known["steps"], known["samples"]


def _trainer_config(plan: Plan, config: SaeTrainingConfig) -> SAETrainerConfig:
    warm_up = config.warm_up_steps
    settings: dict[str, Any] = {
        "lr_end": plan.learning_rate / 10,
        "lr_decay_steps": min(config.n_steps // 3, config.n_steps - warm_up),
        "dead_feature_window": max(48, min(200, config.n_steps // 10)),
        **plan.settings.trainer,
    }
    if "n_restart_cycles" in settings and "restarts" not in str(settings.get("lr_scheduler_name")):
        raise UsageError(
            "--set n_restart_cycles means nothing without restarts; leave it out, or add "
            "--set lr_scheduler_name=cosineannealingwarmrestarts"
        )
    decay = settings["lr_decay_steps"]
    if decay < 0 or warm_up + decay > config.n_steps:
        raise UsageError(
            f"{warm_up:,} steps of warm-up and {decay:,} of decay do not fit into the "
            f"{config.n_steps:,} steps of this training; give fewer with --warmup or "
            "--set lr_decay_steps=..."
        )
    return SAETrainerConfig(
        total_training_samples=config.n_steps * config.batch_size,
        train_batch_size_samples=config.batch_size,
        lr=plan.learning_rate,
        lr_warm_up_steps=warm_up,
        autocast=config.autocast,
        logger=LoggingConfig(log_to_wandb=False),
        **settings,
    )
