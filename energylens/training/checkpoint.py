"""Checkpoints of a training: weights, buffers and optimiser state in one safetensors file."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from energylens.errors import TrainingError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

OTHER = "repeat them, or give another output directory"


class StateFile:
    """A file of tensors and words that appears whole or not at all, and knows the settings it
    belongs to."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self._config = path, json.dumps(settings)
        self._saved: int | None = None

    def last_good(self) -> str:
        """What there is to go back to, as a clause."""
        if self._saved is None:
            return "there is no checkpoint yet"
        return f"the checkpoint '{self.path}' of step {self._saved} is the last good one"

    def write(self, tensors: dict[str, Tensor], words: Mapping[str, str], step: int) -> None:
        """Write the state after `step` steps; a crash leaves the file before it.

        Raises:
            TrainingError: it cannot be written.
        """
        metadata = {"step": str(step), "config": self._config, **words}
        partial = self.path.with_suffix(".partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial, metadata=metadata)
            partial.replace(self.path)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            raise TrainingError(
                f"cannot write the checkpoint of step {step} to '{self.path}': {error}; "
                f"{self.last_good()}; make room and repeat the command"
            ) from error
        self._saved = step

    def read(self) -> tuple[dict[str, Tensor], dict[str, str], int]:
        """The tensors, the words and the steps taken.

        Raises:
            TrainingError: it cannot be read, or belongs to a training with other settings.
        """
        try:
            with safe_open(self.path, "pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
            tensors = load_file(self.path)
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"cannot read the checkpoint '{self.path}': {error}; remove it to begin again"
            ) from error
        if metadata.get("config") != self._config:
            raise TrainingError(
                f"the checkpoint '{self.path}' was made with other settings: "
                f"{difference(metadata.get('config', '{}'), self._config)}; {OTHER}"
            )
        self._saved = int(metadata["step"])
        return tensors, metadata, self._saved


class Checkpoint(StateFile):
    """The file of one language model's training; it knows the texts it belongs to."""

    def __init__(self, path: Path, config: "DataclassInstance", ids: Int[np.ndarray, " n"]) -> None:
        super().__init__(path, asdict(config))
        self._texts = hashlib.sha256(ids.tobytes()).hexdigest()

    def save(self, model: nn.Module, optimizer: torch.optim.AdamW, step: int) -> None:
        """Write the state after `step` steps.

        Raises:
            TrainingError: it cannot be written.
        """
        tensors = {f"model.{n}": p.detach().contiguous() for n, p in _weights(model).items()}
        self.write(tensors | moments(optimizer), {"texts": self._texts}, step)

    def load(self, model: nn.Module, optimizer: torch.optim.AdamW) -> int:
        """Take the file's state over; the steps it has taken.

        Raises:
            TrainingError: it cannot be read, or belongs to another training.
        """
        tensors, metadata, step = self.read()
        if metadata.get("texts") != self._texts:
            raise TrainingError(f"the checkpoint '{self.path}' was made from other texts; {OTHER}")
        for name, weights in _weights(model).items():
            found = tensors.get(f"model.{name}")
            if found is None or found.shape != weights.shape:
                shape = "nothing" if found is None else tuple(found.shape)
                raise TrainingError(
                    f"the checkpoint '{self.path}' has {shape} for '{name}', whose shape is "
                    f"{tuple(weights.shape)}; it is of another model; give another directory"
                )
            with torch.no_grad():
                weights.copy_(found)
        load_moments(optimizer, tensors)
        return step


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's running state by name."""
    return {
        f"optimizer.{index}.{key}": value.detach().contiguous()
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def load_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Take over what `moments` gave; other names are passed over."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def difference(theirs: str, ours: str) -> str:
    """Settings that differ, as `name theirs, not ours`."""
    try:
        before, now = (_flat(json.loads(text)) for text in (theirs, ours))
    except ValueError:
        return "settings that cannot be read"
    found = []
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            found.append(f"{name} {before.get(name)}, not {now.get(name)}")
    return "; ".join(found)


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    inner = settings.get("model")
    return {**settings, **inner, "model": None} if isinstance(inner, dict) else settings
