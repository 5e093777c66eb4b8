"""Does a read-out that first goes down the energy it foretells lose less? A few gradient steps.

    python -m benchmarks.refinement OUT [MODEL] [--texts TEXTS] [--contexts N] [--seeds 0 1 2]

A small network of two layers, as the routers of a MesaNet have one, learns on the even texts to
foretell the energy of the next token from the last stream x. The refinement is

    x <- x - size |x| g / |g|,    g the gradient of the foretold energy by x, once or four times,

and x is then read out as ever. Size and steps are those that lose least on the even texts; judged
are the odd ones, beside the same steps along random directions, along the mean gradient of the even
texts (one direction for all: a bias), and down the true gradient of the energy, which knows the
next token: what such steps could do at best. OUT/refinement.json gets nats against the plain
read-out for each seed of the network, and what the network knows of the energy; intervals are 95 %,
clustered by text.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.exits import Read, contexts_of, judged, read
from energylens.lens.models import LanguageModel, load_model
from energylens.stats.clusters import clustered_mean

SIZES = (0.01, 0.03, 0.1)
STEPS = (1, 4)
HIDDEN, EPOCHS, BATCH = 128, 30, 1024
Direction = Callable[[Float[Tensor, "n d_model"], slice], Float[Tensor, "n d_model"]]
"""Where to go from streams, of which counted tokens they are; of any length."""


@dataclass(frozen=True)
class Way:
    """How far to go, and how often."""

    size: float
    steps: int


def foreteller(found: Read, even: np.ndarray, seed: int) -> nn.Module:
    """A network that foretells energies from streams at unit power, fitted on some tokens; every
    eighth text of them says when to stop."""
    torch.manual_seed(seed)
    d_model = found.stream[-1].shape[1]
    net = nn.Sequential(nn.Linear(d_model, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 1))
    x = functional.rms_norm(found.stream[-1], (d_model,))
    y = torch.from_numpy(found.energy).float()
    judges = torch.from_numpy(even & (found.text % 8 == 0))
    learns = torch.from_numpy(even) & ~judges
    taught = torch.utils.data.TensorDataset(x[learns], y[learns])
    loader = torch.utils.data.DataLoader(
        taught, BATCH, shuffle=True, generator=torch.Generator().manual_seed(seed)
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    best, kept = float("inf"), {}
    for _ in range(EPOCHS):
        for rows, wanted in loader:
            optimizer.zero_grad()
            functional.mse_loss(net(rows)[:, 0], wanted).backward()
            optimizer.step()
        with torch.no_grad():
            error = float(functional.mse_loss(net(x[judges])[:, 0], y[judges]))
        if error < best:
            best, kept = error, {name: one.clone() for name, one in net.state_dict().items()}
    net.load_state_dict(kept)
    return net.requires_grad_(False)


def down(energy: Callable[[Tensor, slice], Tensor]) -> Direction:
    """Against the gradient of an energy of each row."""

    def direction(x: Tensor, rows: slice) -> Tensor:
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(x, rows).sum(), x)
        return -gradient

    return direction


def directions(
    model: LanguageModel, found: Read, even: np.ndarray, seed: int
) -> tuple[dict[str, Direction], float]:
    """By their names, and how much of the energy's variance the network knows on the odd texts."""
    net, d_model = foreteller(found, even, seed), found.stream[-1].shape[1]

    def foretold(x: Tensor, _: slice) -> Tensor:
        return net(functional.rms_norm(x, (d_model,)))[:, 0]

    def true(x: Tensor, rows: slice) -> Tensor:
        return functional.cross_entropy(
            model.readout.logits(x), found.target[rows], reduction="none"
        )

    own = down(foretold)
    x = found.stream[-1]
    mean = unit(own(x[torch.from_numpy(even)], slice(0))).mean(0, keepdim=True)
    drawn = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        said = foretold(x, slice(0)).numpy()[~even]
    energy = found.energy[~even]
    known = 1 - float(np.square(energy - said).mean() / energy.var())
    return {
        "foretold energy": own,
        "random": lambda x, rows: drawn[rows],
        "one direction": lambda x, rows: mean.expand_as(x),
        "true energy": down(true),
    }, known


def unit(x: Tensor) -> Tensor:
    return functional.normalize(x, dim=-1)


def refined(x: Tensor, direction: Direction, way: Way, rows: slice) -> Tensor:
    """Streams after the steps of a way."""
    for _ in range(way.steps):
        x = x + way.size * x.norm(dim=-1, keepdim=True) * unit(direction(x, rows))
    return x


def energies(model: LanguageModel, found: Read, direction: Direction, way: Way) -> np.ndarray:
    """Of all counted tokens, read out after a way."""
    parts = []
    for start in range(0, len(found.text), BATCH):
        rows = slice(start, start + BATCH)
        x = refined(found.stream[-1][rows], direction, way, rows).detach()
        parts.append(judged(model, x, found.target[rows])[0])
    return np.concatenate(parts).astype(np.float64)


def rows_of(model: LanguageModel, found: Read, seed: int) -> Iterator[dict[str, Any]]:
    """A row a direction."""
    even = found.text % 2 == 0
    named, known = directions(model, found, even, seed)
    ways = [Way(size, steps) for size in SIZES for steps in STEPS]
    for name, direction in named.items():
        tried = {way: energies(model, found, direction, way) - found.energy for way in ways}
        best = min(ways, key=lambda way: float(tried[way][even].mean()))
        yield {
            "seed": seed, "direction": name, **asdict(best), "variance_known": known,
            "on_even": float(tried[best][even].mean()),
            "lost": asdict(clustered_mean(tried[best][~even], found.text[~even])),
        }  # fmt: skip


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("out", type=Path)
    asked.add_argument("model", nargs="?", default="builtin:llama")
    asked.add_argument("--texts", default="builtin:categories")
    asked.add_argument("--contexts", type=int, default=1000)
    asked.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = asked.parse_args()
    model = load_model(given.model)
    found = read(model, contexts_of(model, given.texts, given.contexts), [])
    rows: list[dict[str, Any]] = []
    given.out.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        for row in rows_of(model, found, seed):
            rows.append(row)
            print(json.dumps(row), flush=True)  # noqa: T201
    told = {"model": given.model, "tokens": len(found.text), "texts": len(set(found.text.tolist()))}
    (given.out / "refinement.json").write_text(json.dumps(told | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
