"""Directions to be found and a training of SAEs that finds them, for tests."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from energylens.training.saes.config import SaeTrainingConfig
from energylens.training.saes.finish import Saved, save_saes
from energylens.training.saes.loop import Report, train_saes

HOOK = "blocks.0.hook_resid_post"
SETTINGS = {
    "matryoshka_batchtopk": {"matryoshka_widths": "[16,48]"},
    "matching_pursuit": {"max_iterations": "6"},
}
"""What an architecture cannot do without, or would take too long with."""


class Planted:
    """Sparse sums of unit directions, with noise: what an SAE should find."""

    def __init__(
        self, n: int = 64, width: int = 32, l0: float = 4, rows: int = 512, spoilt: int = -1
    ) -> None:
        """`spoilt` is a chunk of huge numbers."""
        generator = torch.Generator().manual_seed(5)
        self.directions = torch.randn(n, width, generator=generator)
        self.directions /= self.directions.norm(dim=1, keepdim=True)
        self.l0, self.chunk_tokens, self._spoilt = l0, rows, spoilt
        self.facts: dict[str, Any] = {
            "model_name": "none", "context_size": 8, "prepend_bos": True, "texts": "planted",
        }  # fmt: skip

    def chunk(self, number: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1000 + number)
        n = len(self.directions)
        on = torch.rand(self.chunk_tokens, n, generator=generator) < self.l0 / n
        codes = on * (0.5 + torch.rand(self.chunk_tokens, n, generator=generator))
        noise = 0.05 * torch.randn(self.chunk_tokens, self.directions.shape[1], generator=generator)
        scale = 1e30 if number == self._spoilt else 1.0
        return {HOOK: (codes @ self.directions + noise) * scale}

    def where(self, first: int, end: int) -> str:
        return f"chunks {first} to {end - 1}"


class Quiet:
    """A Watch that keeps what it hears and calls back after each step."""

    def __init__(self, after: Callable[[int], None] = lambda step: None) -> None:
        self.records: list[Report] = []
        self.phases: list[str] = []
        self.steps: list[int] = []
        self._after = after

    def begin(self) -> None:
        pass

    def phase(self, name: str, done: int, total: int, unit: str) -> None:
        assert 0 <= done <= total
        self.phases.append(name)

    def step(self, report: Callable[[], Report]) -> None:
        self.steps.append(report().step)
        self._after(self.steps[-1])

    def record(self, report: Report) -> None:
        self.records.append(report)


def config_of(architecture: str = "topk", n_steps: int = 60, **changes: Any) -> SaeTrainingConfig:
    plain = SaeTrainingConfig(
        hook_names=(HOOK,),
        architecture=architecture,
        d_sae=48,
        n_tokens=256 * n_steps,
        batch_size=256,
        learning_rate=3e-3,
        block_tokens=1024,
        settings=SETTINGS.get(architecture, {}),
        k=4.0 if "topk" in architecture else None,
    )
    return replace(plain, **changes)


def trained(source: Any, config: SaeTrainingConfig, folder: Path, watch: Any = None) -> list[Saved]:
    done = train_saes(source, config, folder / "c.safetensors", watch or Quiet())
    return save_saes(done, folder, source.facts)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "sae_weights.safetensors")


def best_cosine(found: Tensor, directions: Tensor) -> float:
    """Mean over planted directions of the largest cosine with a found one."""
    unit = found / found.norm(dim=1, keepdim=True).clamp_min(1e-9)
    return float((directions @ unit.T).max(1).values.mean())
