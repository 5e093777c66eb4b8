"""What else lowers a model's energy: the rivals that gains of chosen features are held against.

All are learned on the same tokens. A step along one direction (every feature alike, a bias) is as
long as serves those tokens best; what is fitted by descent (gains, an affine map before the
read-out, weights) stops where texts kept apart for that are served best.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from energylens.lens.batching import Batch
from energylens.lens.energy import lens_energies
from energylens.lens.interventions import Change, Seen
from energylens.lens.models import run_hooks
from energylens.lens.readout import ReadOut
from energylens.lens.repairing import Bench, Part

SIZES = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Steps that are tried, in their order, until the energy rises."""
_BETAS, _EPS = (0.9, 0.99), 1e-8
_EPOCHS = 6
_RATE_GAINS, _RATE_WEIGHTS, _RATE_MAP = 0.02, 0.05, 0.003
"""Steps of descent: of a gain; of a weight, in deviations of its matrix; of the affine map, in
units of the stream's root mean square."""
_ROWS = 512
"""Tokens of one step of the affine map."""
_FIT_TOKENS = 8192
"""Tokens that a temperature is fitted on."""
_AMPLIFY = 10.0
"""How strongly a feature is written for its output score, in mean activations where active."""
_PROMOTED = 20
"""Tokens that the lens reads off a direction."""


@dataclass(frozen=True)
class Taught:
    """Tokens to learn on, and tokens that say when to stop."""

    learn: Part
    check: Part


def best_step(energy: Callable[[float], float], clean: float) -> float:
    """The step of SIZES with the lowest energy, found by going on while it falls; 0 where none
    lowers it."""
    best, lowest = 0.0, clean
    for size in SIZES:
        found = energy(size)
        if not found < lowest:
            break
        best, lowest = size, found
    return best


def constant(direction: Float[Tensor, " d_out"]) -> Change:
    """The same vector at every token."""
    return lambda seen: direction.expand(len(seen.target), -1)


def target_norm(bench: Bench, part: Part) -> float:
    """Median norm of what the SAE writes to, over the tokens that count of one batch."""
    batch, counted, hook = part.batches[0], part.counted[0], bench.sae.target_hook
    _, cache = run_hooks(bench.model, batch.ids, batch.mask.long(), [hook])
    return float(bench.sae.part(cache[hook])[counted].float().flatten(1).norm(dim=1).median())


def fit_temperature(bench: Bench, streams: Float[Tensor, "n d_model"], part: Part) -> float:
    """What the logits are divided by for the lowest energy."""
    chosen = np.random.default_rng(0).permutation(part.n_tokens)[:_FIT_TOKENS]
    kept, labels = streams[chosen], part.labels[chosen]

    def energy(log_temperature: float) -> float:
        readout = at_temperature(bench.model.readout, float(np.exp(log_temperature)))
        return float(lens_energies(readout, kept, labels).energy.double().mean())

    found = minimize_scalar(energy, bounds=(-1.0, 1.0), method="bounded", options={"xatol": 2e-3})
    return float(np.exp(getattr(found, "x")))  # noqa: B009 - scipy's result has no types


def at_temperature(readout: ReadOut, temperature: float) -> ReadOut:
    """The read-out with its logits divided; before the softcap where there is one."""
    return replace(readout, logit_scale=readout.logit_scale / temperature)


def tune_gains(
    bench: Bench, taught: Taught, features: Int[np.ndarray, " k"]
) -> Float[Tensor, " d_sae"]:
    """Gains of some features by descent."""
    chosen = torch.from_numpy(features)
    directions = bench.sae.write_directions[chosen]
    gains = torch.zeros(len(features), requires_grad=True)

    def change(seen: Seen) -> Tensor:
        return ((seen.codes[:, chosen] * gains) @ directions) * seen.write_scale

    def slope(at: int) -> list[Tensor]:
        batch, counted = taught.learn.batches[at], taught.learn.counted[at]
        return _pull(bench, batch, counted, change, [gains])

    _descend(
        [gains],
        slope,
        len(taught.learn.batches),
        lambda: float(bench.energies(taught.check, change).mean()),
        _RATE_GAINS,
    )
    found = torch.zeros(bench.sae.d_sae)
    found[chosen] = gains.detach()
    return found


def tune_map(
    bench: Bench,
    taught: Taught,
    learned_on: Float[Tensor, "n d_model"],
    checked_on: Float[Tensor, "m d_model"],
) -> Callable[[Tensor], Tensor]:
    """An affine map of the stream before the read-out, by descent from the identity."""
    d = learned_on.shape[1]
    matrix, bias = torch.zeros(d, d), torch.zeros(d)
    size = float(learned_on.square().mean().sqrt())
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(learned_on)))
    rows = order.split(_ROWS)

    def mapped(h: Tensor) -> Tensor:
        return h + h @ matrix + size * bias

    def slope(at: int) -> list[Tensor]:
        h = learned_on[rows[at]]
        labels = taught.learn.labels[rows[at]]
        found = lens_energies(bench.model.readout, mapped(h), labels, with_gradient=True)
        assert found.gradient is not None, "asked for"
        return [h.T @ found.gradient / len(h), size * found.gradient.mean(0)]

    def judge() -> float:
        return float(bench.read(mapped(checked_on), taught.check).mean())

    _descend([matrix, bias], slope, len(rows), judge, _RATE_MAP / d**0.5)
    return mapped


@dataclass(frozen=True)
class Weights:
    """Some numbers of a model, where they stand and what they are."""

    tensors: list[Tensor]
    places: list[Int[Tensor, " _"]]
    """Of each tensor, laid flat."""
    before: list[Float[Tensor, " _"]]
    after: list[Float[Tensor, " _"]]

    @contextmanager
    def turned(self) -> Iterator[None]:
        """The model with them as they were tuned."""
        try:
            self._put(self.after)
            yield
        finally:
            self._put(self.before)

    def _put(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for tensor, place, value in zip(self.tensors, self.places, values, strict=True):
                tensor.view(-1)[place] = value.to(tensor.dtype)


def tune_weights(bench: Bench, taught: Taught, n: int, seed: int) -> Weights:
    """n numbers drawn from all weights but the embedding, by descent; each moves in deviations
    of the numbers of its tensor. The model is as before when this returns."""
    weights = _drawn_weights(bench, taught, n, seed)
    scales = [float(t.detach().float().std()) if t.numel() > 1 else 1.0 for t in weights.tensors]
    moved = [torch.zeros(len(place)) for place in weights.places]

    def put() -> None:
        after = [b + s * m for b, s, m in zip(weights.before, scales, moved, strict=True)]
        weights._put(after)

    def slope(at: int) -> list[Tensor]:
        put()
        batch, counted = taught.learn.batches[at], taught.learn.counted[at]
        found = _pull(bench, batch, counted, None, weights.tensors)
        places = zip(found, weights.places, scales, strict=True)
        return [s * g.reshape(-1)[place].float() for g, place, s in places]

    def judge() -> float:
        put()
        return float(bench.energies(taught.check).mean())

    try:
        with _requiring(weights.tensors):
            _descend(moved, slope, len(taught.learn.batches), judge, _RATE_WEIGHTS)
    finally:
        weights._put(weights.before)
    after = [b + s * m for b, s, m in zip(weights.before, scales, moved, strict=True)]
    return replace(weights, after=after)


def _drawn_weights(bench: Bench, taught: Taught, n: int, seed: int) -> Weights:
    """Only tensors that the pass reads: a wrapper may hold some it does not."""
    model = bench.model
    module: Any = model.bridge if isinstance(model.bridge, nn.Module) else model.hf_model
    embedding = model.hf_model.get_input_embeddings().weight
    named: list[Tensor] = [
        tensor
        for tensor in module.parameters()
        if tensor is not embedding and tensor.is_floating_point() and tensor.is_contiguous()
    ]
    batch, counted = taught.learn.batches[0], taught.learn.counted[0]
    with _requiring(named):
        slopes = _pull(bench, batch, counted, None, named)
    used = [t for t, g in zip(named, slopes, strict=True) if bool(g.any())]
    ends = np.cumsum([t.numel() for t in used])
    generator = np.random.default_rng(seed)
    drawn = np.sort(generator.choice(int(ends[-1]), min(n, int(ends[-1])), replace=False))
    of = np.searchsorted(ends, drawn, side="right")
    tensors, places = [], []
    for number in np.unique(of):
        tensors.append(used[number])
        first = int(ends[number]) - used[number].numel()
        places.append(torch.from_numpy(drawn[of == number] - first))
    before = [t.detach().view(-1)[p].float() for t, p in zip(tensors, places, strict=True)]
    return Weights(tensors, places, before, before)


@contextmanager
def _requiring(tensors: Sequence[Tensor]) -> Iterator[None]:
    known = [tensor.requires_grad for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.requires_grad_(True)
        yield
    finally:
        for tensor, was in zip(tensors, known, strict=True):
            tensor.requires_grad_(was)


def _pull(
    bench: Bench,
    batch: Batch,
    counted: Bool[Tensor, "batch pos"],
    change: Change | None,
    wanted: list[Tensor],
) -> list[Tensor]:
    """Slopes of the mean energy of a batch's counted tokens by some tensors."""
    kept: dict[str, Tensor] = {}

    def keep(value: Tensor, hook: object) -> None:
        kept["stream"] = value

    hooks = [*bench.edits(batch, change), (bench.last, keep)]
    with torch.enable_grad():
        bench.model.bridge.run_with_hooks(
            batch.ids, attention_mask=batch.mask.long(), fwd_hooks=hooks
        )
        stream = kept["stream"]
        at_last = torch.zeros_like(stream)
        read = lens_energies(
            bench.model.readout, stream.detach()[counted], batch.next_ids[counted], True
        )
        assert read.gradient is not None, "asked for"
        at_last[counted] = (read.gradient / max(int(counted.sum()), 1)).to(stream.dtype)
        found = torch.autograd.grad(stream, wanted, at_last, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(wanted, found, strict=True)]


def _descend(
    values: list[Tensor],
    slope: Callable[[int], list[Tensor]],
    n_parts: int,
    judge: Callable[[], float],
    rate: float,
) -> None:
    """Adam (Kingma and Ba, 2015) in place, until an epoch does not lower what `judge` says; the
    best epoch's values stay, which may be those at the start."""
    first, second = ([torch.zeros_like(v) for v in values] for _ in range(2))
    best, lowest, step = [v.detach().clone() for v in values], judge(), 0
    for _ in range(_EPOCHS):
        for part in range(n_parts):
            step += 1
            for v, m, s, g in zip(values, first, second, slope(part), strict=True):
                m.lerp_(g, 1 - _BETAS[0])
                s.lerp_(g.square(), 1 - _BETAS[1])
                mean, square = m / (1 - _BETAS[0] ** step), s / (1 - _BETAS[1] ** step)
                v.data -= rate * mean / (square.sqrt() + _EPS)
        found = judge()
        if not found < lowest:
            break
        best, lowest = [v.detach().clone() for v in values], found
    for v, kept in zip(values, best, strict=True):
        v.data.copy_(kept)


def output_scores(
    bench: Bench,
    prompt: Int[Tensor, " pos"],
    features: Int[np.ndarray, " k"],
    mean_active: Float[np.ndarray, " k"],
) -> Float[np.ndarray, " k"] | None:
    """How far each feature, written strongly over a prompt, brings forward the tokens that the lens
    reads off its direction: their largest probability times 1 - least rank / d_vocab (Arad, Mueller
    and Belinkov, 2025, arXiv 2505.20063). None where the SAE does not write to the stream's space.
    """
    sae, readout = bench.sae, bench.model.readout
    if sae.write_directions.shape[1] != len(readout.norm.gain):
        return None
    found = []
    for chosen in torch.from_numpy(features).split(64):
        directions = sae.write_directions[chosen]
        amount = torch.from_numpy(mean_active[len(found) * 64 :][: len(chosen)]).float()
        written = _AMPLIFY * amount[:, None] * directions
        rows = prompt.expand(len(chosen), -1)
        mask = torch.ones_like(rows, dtype=torch.bool)

        def edit(value: Tensor, hook: object, written: Tensor = written) -> Tensor:
            out = value.clone()
            kept = (prompt != bench.model.bos_id).to(out.dtype)[None, :, None]
            own = sae.part(out)
            own += (written.to(out.dtype)[:, None] * kept).reshape(own.shape)
            return out

        _, cache = run_hooks(
            bench.model, rows, mask.long(), [bench.last], edits=[(sae.target_hook, edit)]
        )
        p = readout.logits(cache[bench.last][:, -1]).softmax(-1)
        lens = (readout.norm.centre(directions) * readout.norm.gain) @ readout.W_U
        own = p.gather(1, lens.topk(min(_PROMOTED, p.shape[1])).indices).amax(1)
        rank = (p > own[:, None]).sum(1) / p.shape[1]
        found.append((own * (1 - rank)).double().numpy())
    return np.concatenate(found) if found else np.zeros(0)
