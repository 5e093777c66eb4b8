"""One split of a repair: gains learned on some texts, and everything else that is learned on them,
each with the energies of the texts that judge."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from energylens.errors import UsageError
from energylens.lens.energy import lens_energies
from energylens.lens.gains import gain_change, other_directions
from energylens.lens.repairing import Bench, Part
from energylens.lens.rivals import (
    Taught,
    at_temperature,
    best_step,
    constant,
    fit_temperature,
    output_scores,
    target_norm,
    tune_gains,
    tune_map,
    tune_weights,
)
from energylens.stats.repairs import (
    Known,
    TextSums,
    learn,
    matched_gains,
    random_signs,
    signed_gains,
    strongest,
)

CHOICES = ("attribution", "efas", "efas-lens", "frequency", "output-score", "random")
"""What features may be chosen by; all are turned by the sign of their attribution. EFAS is of the
gradient that attribution takes, of all energies that follow; efas-lens is of the token's own lens
energy, as the index has it."""
GLOBAL = "global gain"
TUNED = ("fine-tuned", "tuned lens", "random weights")
"""Conditions that are learned by descent."""
CONDITIONS = (
    *(f"by {choice}" for choice in CHOICES),
    *("reversed", "random signs", "matched", "random directions"),
    *(GLOBAL, "global and chosen", "bias", "temperature", *TUNED),
)


@dataclass(frozen=True)
class Wish:
    """What is asked of a repair."""

    top: int
    """Features that get a gain."""
    by: str
    """What they are chosen by: one of CHOICES."""
    step: float
    """How far each is turned: its gain is this or minus this."""
    n_splits: int
    seed: int
    tunes: bool
    """Try what is learned by descent, too."""

    @property
    def conditions(self) -> tuple[str, ...]:
        """What each split tries, in order."""
        return tuple(name for name in CONDITIONS if self.tunes or name not in TUNED)


@dataclass(frozen=True)
class Tried:
    """One condition over the judging texts."""

    name: str
    energies: np.ndarray
    amount: float | None = None
    """The global gain, the bias's length or the temperature that was learned."""


PartOf = Callable[[np.ndarray], Part]
"""Contexts of the texts that a mask says."""


class Split:
    """Texts to learn on and texts to judge."""

    def __init__(
        self,
        bench: Bench,
        part_of: PartOf,
        sums: TextSums,
        learned: np.ndarray,
        prompt: Tensor,
        wish: Wish,
        seed: int,
    ) -> None:
        """`prompt` is what output scores are taken on.

        Raises:
            UsageError: no feature is active often enough to be chosen.
        """
        self.bench, self.wish, self._seed, self._prompt = bench, wish, seed, prompt
        directions = bench.sae.write_directions.double().numpy()
        self.known: Known = learn(sums.of(learned), directions)
        if not len(self.known.tested):
            raise UsageError(
                f"no feature of '{bench.sae.sae_id}' is active on 30 tokens in 10 texts of a half: "
                "there is nothing to learn from; ingest more texts"
            )
        self.judge = part_of(~learned)
        chosen = np.flatnonzero(learned)
        kept_apart = np.zeros_like(learned)
        kept_apart[chosen[::4]] = True
        self._learn, self._part_of = part_of(learned), part_of
        self._masks = (learned & ~kept_apart, kept_apart)
        self._gradient = sums.of(learned).gradient.sum(axis=0)
        self._streams = bench.streams(self.judge)
        self.clean = bench.read(self._streams, self.judge)

    @cached_property
    def gains(self) -> np.ndarray:
        """Those that were asked for."""
        chosen = self.chosen(self.wish.by)
        if chosen is None:
            raise UsageError(
                f"'{self.bench.sae.sae_id}' does not write to the residual stream, so its features "
                f"cannot be chosen by {self.wish.by}; choose by another figure"
            )
        return signed_gains(chosen, self.known, self.wish.step)

    def chosen(self, by: str) -> np.ndarray | None:
        """Features by one of CHOICES; None where they have no such figure."""
        known = self.known
        if by == "output-score":
            tested = known.tested
            scores = output_scores(self.bench, self._prompt, tested, known.mean_active[tested])
            if scores is None:
                return None
            figure = np.full(len(known.t), np.nan)
            figure[tested] = scores
        else:
            figure = {
                "attribution": np.abs(known.t),
                "efas": np.abs(known.t_efas),
                "efas-lens": None if known.t_efas_lens is None else np.abs(known.t_efas_lens),
                "frequency": known.n_active,
                "random": np.random.default_rng(self._seed).random(len(known.t)),
            }[by]
            if figure is None:
                return None
        return strongest(figure, self.wish.top, known)

    def tried(self) -> Iterator[Tried]:
        """Every condition, in the order of CONDITIONS."""
        for name in self.wish.conditions:
            made = self._by(name) if name.startswith("by ") else _WAYS[name](self, name)
            if made is not None:
                yield made

    def _by(self, name: str) -> Tried | None:
        chosen = self.chosen(name.removeprefix("by "))
        if chosen is None:
            return None
        return self._gained(name, signed_gains(chosen, self.known, self.wish.step))

    def _gained(self, name: str, gains: np.ndarray, amount: float | None = None) -> Tried:
        change = gain_change(self.bench.sae, torch.from_numpy(gains).float())
        return Tried(name, self.bench.energies(self.judge, change), amount)

    def _reversed(self, name: str) -> Tried:
        return self._gained(name, -self.gains)

    def _signs(self, name: str) -> Tried:
        return self._gained(name, random_signs(self.gains, self._seed))

    def _matched(self, name: str) -> Tried:
        return self._gained(name, matched_gains(self.gains, self.known))

    def _directions(self, name: str) -> Tried:
        gains = torch.from_numpy(self.gains).float()
        change = other_directions(self.bench.sae, gains, self._seed)
        return Tried(name, self.bench.energies(self.judge, change))

    @cached_property
    def _learned_energy(self) -> float:
        return float(self.bench.energies(self._learn).mean())

    @cached_property
    def _global(self) -> float:
        """The gain of all features that serves the learning texts best."""
        sign = float(np.sign(self.known.attribution.sum())) or 1.0

        def energy(size: float) -> float:
            gains = torch.full((self.bench.sae.d_sae,), sign * size)
            change = gain_change(self.bench.sae, gains)
            return float(self.bench.energies(self._learn, change).mean())

        return sign * best_step(energy, self._learned_energy) or 0.0

    def _all(self, name: str) -> Tried:
        return self._gained(name, np.full(len(self.gains), self._global), self._global)

    def _all_and_chosen(self, name: str) -> Tried:
        return self._gained(name, self._global + self.gains)

    def _bias(self, name: str) -> Tried:
        """Down the mean gradient, as far as serves."""
        slope = torch.from_numpy(self._gradient).float()
        unit = -slope / slope.norm().clamp_min(1e-12)
        size = target_norm(self.bench, self._learn)

        def energy(step: float) -> float:
            return float(self.bench.energies(self._learn, constant(step * size * unit)).mean())

        length = size * best_step(energy, self._learned_energy)
        return Tried(name, self.bench.energies(self.judge, constant(length * unit)), length)

    def _temperature(self, name: str) -> Tried:
        streams = self.bench.streams(self._learn)
        found = fit_temperature(self.bench, streams, self._learn)
        readout = at_temperature(self.bench.model.readout, found)
        cooled = lens_energies(readout, self._streams, self.judge.labels)
        return Tried(name, cooled.energy.double().numpy(), found)

    @cached_property
    def _taught(self) -> Taught:
        return Taught(*(self._part_of(mask) for mask in self._masks))

    def _tuned_gains(self, name: str) -> Tried:
        tuned = tune_gains(self.bench, self._taught, np.flatnonzero(self.gains))
        return self._gained(name, tuned.double().numpy())

    def _tuned_lens(self, name: str) -> Tried:
        on = [self.bench.streams(part) for part in (self._taught.learn, self._taught.check)]
        mapped = tune_map(self.bench, self._taught, *on)
        return Tried(name, self.bench.read(mapped(self._streams), self.judge))

    def _weights(self, name: str) -> Tried:
        n = int((self.gains != 0).sum())
        with tune_weights(self.bench, self._taught, n, self._seed).turned():
            return Tried(name, self.bench.energies(self.judge))


_WAYS: dict[str, Callable[[Split, str], Tried]] = {
    "reversed": Split._reversed,
    "random signs": Split._signs,
    "matched": Split._matched,
    "random directions": Split._directions,
    GLOBAL: Split._all,
    "global and chosen": Split._all_and_chosen,
    "bias": Split._bias,
    "temperature": Split._temperature,
    "fine-tuned": Split._tuned_gains,
    "tuned lens": Split._tuned_lens,
    "random weights": Split._weights,
}
