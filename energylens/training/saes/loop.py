"""The loop: several SAEs on the same batches, with a checkpoint that a kill at any moment leaves
whole, and after which the same weights come of it."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from energylens.errors import TrainingError
from energylens.training.checkpoint import StateFile
from energylens.training.saes.blocks import Block, Blocks
from energylens.training.saes.config import SaeTrainingConfig, plans_of
from energylens.training.saes.resampling import resample
from energylens.training.saes.source import Source
from energylens.training.saes.trainee import Figures, Trainee
from energylens.training.signals import stop_signals

RECORD_EVERY = 50
"""Steps between two records of the figures."""
_SAVE_EVERY = 250
_SAVE_SECONDS = 60.0
"""A checkpoint is written after so many steps or seconds, whichever comes first."""


@dataclass(frozen=True)
class Report:
    """How far a training is and how its SAEs do."""

    step: int
    n_steps: int
    n_tokens: int
    """Tokens trained on so far."""
    tokens_per_second: float
    """At which tokens are read and then trained on, from both rates since this command began."""
    figures: tuple[Figures, ...]

    @property
    def seconds_to_go(self) -> float:
        """At the rate so far."""
        left = (self.n_steps - self.step) * self.n_tokens / max(self.step, 1)
        return left / self.tokens_per_second


@runtime_checkable
class Watch(Protocol):
    """Who looks on."""

    def begin(self) -> None:
        """The SAEs are made: nothing that was asked for stands against the training."""
        ...

    def phase(self, name: str, done: int, total: int, unit: str) -> None:
        """How far something is that goes before a step."""
        ...

    def step(self, report: Callable[[], Report]) -> None:
        """A step was taken; `report` makes what there is to be shown of it."""
        ...

    def record(self, report: Report) -> None:
        """What is to be kept: figures over the steps since the last record."""
        ...


@dataclass(frozen=True)
class Trained:
    """SAEs at the end of their budget."""

    trainees: list[Trainee]
    sample: Block
    """Activations they were not trained on, unless the texts were read several times."""


SAMPLE_TOKENS = 1 << 14
"""Tokens that trained SAEs are measured on."""


def settings_of_training(source: Source, config: SaeTrainingConfig) -> dict[str, Any]:
    """All that decides the weights; a checkpoint of other settings is refused."""
    return asdict(config) | source.facts


def train_saes(
    source: Source, config: SaeTrainingConfig, checkpoint: Path, watch: Watch
) -> Trained:
    """Train until the budget is spent; go on from `checkpoint` where it exists.

    Ctrl-C and SIGTERM end the step under way and write a checkpoint before they stop the training.

    Raises:
        UsageError: what was asked for does not fit together.
        TrainingError: there is too little text, the checkpoint is damaged, of another training or
            cannot be written, or a loss stopped being a number.
        KeyboardInterrupt: the training was asked to stop.
    """
    with stop_signals() as stopped:
        return _Training(source, config, checkpoint, watch, stopped).run()


class _Pace:
    """How long something takes."""

    def __init__(self) -> None:
        self._seconds, self._n_tokens = 0.0, 0

    def add(self, n_tokens: int, began: float) -> None:
        """Tokens that were done since `began`, of the monotonic clock."""
        self._seconds += time.monotonic() - began
        self._n_tokens += n_tokens

    @property
    def seconds_a_token(self) -> float:
        """Positive, whatever the clock says of a moment."""
        return max(self._seconds, 1e-9) / max(self._n_tokens, 1)


class _Training:
    def __init__(
        self,
        source: Source,
        config: SaeTrainingConfig,
        checkpoint: Path,
        watch: Watch,
        stopped: Callable[[], bool],
    ) -> None:
        self.config, self.watch, self.stopped = config, watch, stopped
        self.reading, self.training = _Pace(), _Pace()
        self.plans = plans_of(config)
        self.file = StateFile(checkpoint, settings_of_training(source, config))
        self.blocks = Blocks(
            source, config.block_tokens, config.batch_size, config.seed, watch.phase, stopped
        )
        self.step, self.at = 0, 0
        """Steps taken, and batches of the block that were trained on."""
        self.block, self.trainees = self._begin()

    def run(self) -> Trained:
        """Every step that is left."""
        self.watch.begin()
        saved_at, saved = time.monotonic(), self.step
        while self.step < self.config.n_steps:
            self._turn()
            began = time.monotonic()
            self._take()
            self.training.add(self.config.batch_size, began)
            self.watch.step(self._report)
            is_last = self.step == self.config.n_steps
            if self.step % RECORD_EVERY == 0 or is_last:
                self._record()
            is_due = (
                self.step - saved >= _SAVE_EVERY or time.monotonic() - saved_at >= _SAVE_SECONDS
            )
            if is_due or is_last or self.stopped():
                self._save()
                saved_at, saved = time.monotonic(), self.step
            if self.stopped():
                raise KeyboardInterrupt
        return Trained(self.trainees, self.blocks.read(self.block.number + 1, SAMPLE_TOKENS))

    def _begin(self) -> tuple[Block, list[Trainee]]:
        if not self.file.path.exists():
            block = self._read(0)
            trainees = self._trainees(block)
            for trainee in trainees:
                trainee.begin(block.pools[trainee.plan.hook_name])
            return block, trainees
        tensors, words, self.step = self.file.read()
        block, self.at = self._read(int(words["block"])), int(words["batch"])
        trainees = self._trainees(block)
        for index, trainee in enumerate(trainees):
            prefix = f"{index}."
            own = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
            trainee.load(own, words[f"sae {index}"])
        torch.set_rng_state(tensors["rng"])
        return block, trainees

    def _read(self, number: int) -> Block:
        began = time.monotonic()
        block = self.blocks.read(number)
        self.reading.add(len(block.order), began)
        return block

    def _trainees(self, block: Block) -> list[Trainee]:
        return [
            Trainee(plan, block.pools[plan.hook_name].shape[1], self.config) for plan in self.plans
        ]

    def _turn(self) -> None:
        """The next block, where this one is used up."""
        if self.at < self.block.n_batches:
            return
        try:
            self.block = self._read(self.block.number + 1)
        except KeyboardInterrupt:
            self._save()
            raise
        self.at = 0

    def _take(self) -> None:
        """One step of every SAE."""
        batches = self.block.batch(self.at)
        every = self.config.resample_every
        for index, trainee in enumerate(self.trainees):
            if every and self.step and self.step % every == 0:
                resample(
                    trainee,
                    self.block.pools[trainee.plan.hook_name],
                    every // 2,
                    (self.config.seed, self.step, index),
                )
            loss = trainee.step(batches[trainee.plan.hook_name])
            if not math.isfinite(loss):
                raise self._spoilt(trainee, f"the loss is {loss}")
        self.step, self.at = self.step + 1, self.at + 1

    def _save(self) -> None:
        tensors = {"rng": torch.get_rng_state()}
        turned = self.at >= self.block.n_batches
        words = {
            "block": str(self.block.number + turned),
            "batch": str(0 if turned else self.at),
        }
        for index, trainee in enumerate(self.trainees):
            if not trainee.is_finite():
                raise self._spoilt(trainee, "a gradient was no number, and so are the weights")
            tensors |= {f"{index}.{name}": value for name, value in trainee.tensors().items()}
            words[f"sae {index}"] = trainee.words()
        self.file.write(tensors, words, self.step)

    def _spoilt(self, trainee: Trainee, what: str) -> TrainingError:
        return TrainingError(
            f"training the SAE '{trainee.plan.name}' at {trainee.plan.hook_name} came to an end "
            f"in step {self.step}, batch {self.at} of block {self.block.number} "
            f"({self.block.where}): {what}; {self.file.last_good()}; lower the learning rate, or "
            "look at these texts"
        )

    def _report(self) -> Report:
        found = [trainee.figures() for trainee in self.trainees]
        return Report(
            step=self.step,
            n_steps=self.config.n_steps,
            n_tokens=self.step * self.config.batch_size,
            tokens_per_second=1 / (self.reading.seconds_a_token + self.training.seconds_a_token),
            figures=tuple(figures for figures in found if figures is not None),
        )

    def _record(self) -> None:
        self.watch.record(self._report())
        for trainee in self.trainees:
            trainee.restart()
