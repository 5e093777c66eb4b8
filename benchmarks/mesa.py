"""The mesa layer: how exact its solve is, and what it costs beside attention.

    python -m benchmarks.mesa

Writes `docs/findings/mesa.md`: conjugate-gradient steps against error, in float32 and float64 and
for several chunk sizes, gradients against autograd through a direct solve, and training steps of a
MesaNet against those of its twin with attention, paired.
"""

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from energylens.mesanet.solver import MesaInputs, mesa_chunked, mesa_exact
from energylens.training.mesanet import MesaNetTrainingConfig, build, training_loss

STEPS = (2, 4, 6, 8, 12, 16)
CHUNKS = (8, 16, 32, 64)
N_PAIRS = 7
TARGET = Path("docs/findings/mesa.md")


def main() -> None:
    """Measure and write the file."""
    torch.set_num_threads(1)
    TARGET.write_text("\n".join(report()) + "\n", encoding="utf-8")
    print(f"wrote {TARGET}")  # noqa: T201


def report() -> Iterator[str]:
    """The file, part by part."""
    yield "# The mesa layer in numbers\n\nMade by `python -m benchmarks.mesa`, on one core.\n"
    yield "## Error of the output against a direct float64 solve\n"
    yield (
        "Largest absolute error over the largest absolute output; 2 texts of 256 tokens, 3 heads "
        "of 16, chunks of 32.\n"
    )
    yield "| steps | float32 | float64 |\n|---:|---:|---:|"
    exact = mesa_exact(inputs(torch.float64))
    for steps in STEPS:
        errors = [
            relative(mesa_chunked(inputs(dtype), 32, steps).out, exact)
            for dtype in (torch.float32, torch.float64)
        ]
        yield f"| {steps} | {errors[0]:.1e} | {errors[1]:.1e} |"
    yield "\n## The same at 16 steps, by size of the chunk\n"
    yield "| chunk | float32 | float64 |\n|---:|---:|---:|"
    for chunk in CHUNKS:
        errors = [
            relative(mesa_chunked(inputs(dtype), chunk, 16).out, exact)
            for dtype in (torch.float32, torch.float64)
        ]
        yield f"| {chunk} | {errors[0]:.1e} | {errors[1]:.1e} |"
    yield "\n## Gradients against autograd through the direct solve, float64\n"
    yield "Largest error over the largest gradient, the worst of q, k, v, beta, gamma and ridge.\n"
    yield "| steps | error |\n|---:|---:|"
    for steps in STEPS:
        yield f"| {steps} | {gradient_error(steps):.1e} |"
    yield from throughput()


def inputs(dtype: torch.dtype, requires_grad: bool = False) -> MesaInputs:
    """Unit queries and keys, weights and decays as a trained layer has them."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    unit = torch.nn.functional.normalize
    drawn = (
        unit(draw(2, 3, 256, 16), dim=-1),
        unit(draw(2, 3, 256, 16), dim=-1),
        draw(2, 3, 256, 16),
        draw(2, 3, 256).sigmoid(),
        torch.nn.functional.logsigmoid(draw(2, 3, 256) + 3),
        draw(3, 16).exp() + 0.25,
    )
    return MesaInputs(*(x.to(dtype).requires_grad_(requires_grad) for x in drawn))


def relative(found: Tensor, exact: Tensor) -> float:
    """Largest absolute error over the largest absolute value."""
    return float((found.double() - exact).abs().max() / exact.abs().max())


def gradient_error(steps: int) -> float:
    """Of the sum of squares of the output, for all inputs."""
    one, other = inputs(torch.float64, True), inputs(torch.float64, True)
    mesa_chunked(one, 32, steps).out.square().sum().backward()
    mesa_exact(other).square().sum().backward()
    worst = 0.0
    for name in ("q", "k", "v", "beta", "log_gamma", "ridge"):
        found, exact = getattr(one, name).grad, getattr(other, name).grad
        worst = max(worst, relative(found, exact))
    return worst


def throughput() -> Iterator[str]:
    """Training steps in pairs, first one model and then the other; the median of the ratios."""
    config = MesaNetTrainingConfig(model={})
    twins = {
        "mesa": build(config),
        "attention": build(replace(config, model={"mixer": "attention"})),
    }
    ids = np.random.default_rng(0).integers(1, 4096, (config.batch_size, config.n_ctx))
    windows = torch.from_numpy(ids)
    for model in twins.values():
        step_seconds(model, windows, config)
    pairs = [
        [step_seconds(model, windows, config) for model in twins.values()] for _ in range(N_PAIRS)
    ]
    ratios = sorted(one / other for one, other in pairs)
    yield "\n## A training step against the twin with attention\n"
    yield (
        f"The default size, {config.tokens_per_step:,} tokens a step, forward and backward, "
        f"{N_PAIRS} pairs on one core.\n"
    )
    yield "| mixer | parameters | seconds, median | tokens/s |\n|---|---:|---:|---:|"
    for index, (name, model) in enumerate(twins.items()):
        median = statistics.median(pair[index] for pair in pairs)
        n = sum(p.numel() for p in model.parameters())
        yield f"| {name} | {n:,} | {median:.2f} | {config.tokens_per_step / median:,.0f} |"
    yield (
        f"\nA step of mesa takes {statistics.median(ratios):.2f} times that of attention "
        f"(pairs: {ratios[0]:.2f} to {ratios[-1]:.2f})."
    )


def step_seconds(model, windows: Tensor, config: MesaNetTrainingConfig) -> float:
    """One forward and backward pass."""
    since = time.perf_counter()
    training_loss(model, windows, config)[0].backward()
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - since


if __name__ == "__main__":
    main()
