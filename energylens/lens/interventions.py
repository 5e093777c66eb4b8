"""Change features of an SAE while the model runs, keeping what the SAE does not explain.

An edit adds `(z' - z) W` to the SAE's target hook, with W what one unit of each activation writes
(Marks et al., 2024, arXiv 2403.19647): that is the SAE's output on edited codes plus its unchanged
error term. Codes are those of the pass itself, so an edit sees what earlier edits did.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.errors import UsageError
from energylens.lens.conditions import Trigger
from energylens.lens.gate import encode_tokens
from energylens.lens.saes import Sae

Kind = Literal["ablate", "scale", "clamp", "add"]
"""ablate: z' = 0; scale: z' = value z; clamp: z' = value; add: z' = z + value."""
KINDS: tuple[Kind, ...] = get_args(Kind)
Unit = Literal["activation", "max", "norm"]
"""What clamp and add count in: activations; multiples of each feature's maximum; for add, multiples
of the norm of the vector that is added to."""
UNITS: tuple[Unit, ...] = get_args(Unit)

Hook = tuple[str, Callable[..., Any]]

_LIKE = 10
"""Features closest in strength, among which a control is drawn."""


@dataclass(frozen=True)
class Edit:
    """What is done to some features."""

    feature_ids: tuple[int, ...]
    kind: Kind
    value: float = 0.0
    unit: Unit = "activation"
    maxima: tuple[float, ...] = ()
    """Of the features, in their order; needed where `unit` is max."""


@dataclass(frozen=True)
class Seen:
    """What a change is worked out from: n tokens at the SAE's hooks."""

    codes: Float[Tensor, "n d_sae"]
    target: Float[Tensor, "n d_out"]
    """What is added to."""
    write_scale: Float[Tensor, "n 1"]
    """See `Sae.write_scale`; ones where the SAE scales nothing."""


Change = Callable[[Seen], Float[Tensor, "n d_out"]]
"""What is added at each token."""


@dataclass(frozen=True)
class Intervention:
    """A change at an SAE's target hook, at some tokens."""

    sae: Sae
    change: Change
    bos_id: int | None
    positions: tuple[int, ...] | None = None
    """Of the context; None is every token but BOS."""
    when: Trigger | None = None
    """Only at those of them where it holds; None is at all."""
    told: Callable[[Bool[Tensor, "batch pos"]], None] | None = None
    """Called in each pass with the tokens that are changed."""

    def hooks(self, ids: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"]) -> list[Hook]:
        """Hooks of one forward pass over a padded batch."""
        sae, when, target = self.sae, self.when, self.sae.target_hook
        held: dict[str, Tensor] = {}

        def keeper(name: str) -> Hook:
            return name, lambda value, hook: held.__setitem__(name, value)

        def edit(value: Tensor, hook: Any) -> Tensor:
            held[target] = value
            where = self._where(ids, mask)
            if when is not None:
                where &= when.mask(held[when.sae.hook_name], mask)
            if self.told is not None:
                self.told(where)
            seen = see(sae, held[sae.hook_name], value, where, mask)
            added = self.change(seen)
            out = value.clone()
            own = sae.part(out)
            own[where] += added.to(value.dtype).reshape(own[where].shape)
            return out

        read = [sae.hook_name] if when is None else [sae.hook_name, when.sae.hook_name]
        earlier = dict.fromkeys(name for name in read if name != target)
        return [*(keeper(name) for name in earlier), (target, edit)]

    def _where(self, ids: Tensor, mask: Tensor) -> Tensor:
        where = mask.clone()
        if self.positions is not None:
            chosen = torch.zeros(ids.shape[1], dtype=torch.bool)
            chosen[[p for p in self.positions if p < ids.shape[1]]] = True
            return where & chosen
        if self.bos_id is not None:
            where &= ids != self.bos_id
        return where


def see(
    sae: Sae,
    source: Float[Tensor, "batch pos *d_in"],
    target: Float[Tensor, "batch pos *d_out"],
    where: Bool[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"],
) -> Seen:
    """Codes and vectors of the chosen tokens of a batch; `mask` marks its real ones."""
    codes = encode_tokens(sae, source, mask)[where[mask]].float()
    scale = sae.write_scale(source[where].flatten(1))
    ones = torch.ones(len(codes), 1)
    vectors = sae.part(target)[where].float().flatten(1)
    return Seen(codes, vectors, ones if scale is None else scale[:, None])


def feature_change(sae: Sae, edit: Edit) -> Change:
    """The change an edit makes.

    Raises:
        UsageError: the SAE has no such feature, or the edit does not fit together.
    """
    check_edit(sae, edit)
    features = torch.tensor(edit.feature_ids)
    directions = sae.write_directions[features]
    norms = directions.norm(dim=1).clamp_min(1e-12)
    maxima = torch.tensor(edit.maxima) if edit.unit == "max" else torch.ones(len(features))

    def change(seen: Seen) -> Tensor:
        z = seen.codes[:, features]
        if edit.kind == "ablate":
            moved = -z
        elif edit.kind == "scale":
            moved = (edit.value - 1.0) * z
        elif edit.kind == "clamp":
            moved = edit.value * maxima - z
        elif edit.unit == "norm":
            length = edit.value * seen.target.norm(dim=1, keepdim=True)
            moved = length / (norms * seen.write_scale)
        else:
            moved = (edit.value * maxima).expand_as(z)
        return (moved @ directions) * seen.write_scale

    return change


def check_edit(sae: Sae, edit: Edit) -> None:
    """Make sure an edit can be made.

    Raises:
        UsageError: it cannot; the message says why.
    """
    if not edit.feature_ids:
        raise UsageError("an intervention needs at least one feature")
    wrong = [f for f in edit.feature_ids if not 0 <= f < sae.d_sae]
    if wrong:
        raise UsageError(f"'{sae.sae_id}' has features 0 to {sae.d_sae - 1}, not {wrong[0]}")
    if edit.kind not in KINDS:
        raise UsageError(f"an intervention is one of {', '.join(KINDS)}, not '{edit.kind}'")
    if edit.unit not in UNITS:
        raise UsageError(f"the unit is one of {', '.join(UNITS)}, not '{edit.unit}'")
    if edit.unit == "norm" and edit.kind != "add":
        raise UsageError("multiples of the norm can only be added, not clamped or scaled to")
    if edit.unit == "max" and len(edit.maxima) != len(edit.feature_ids):
        raise UsageError("multiples of the maximum need the maximum of each feature; index the run")


def flipped(change: Change) -> Change:
    """The same change with its sign turned round: a control."""
    return lambda seen: -change(seen)


def noise(change: Change, seed: int) -> Change:
    """One random direction, at every token as long as the change: a control."""

    def control(seen: Seen) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(seen.target.shape[1], generator=generator)
        return along(change, direction)(seen)

    return control


def along(change: Change, direction: Float[Tensor, " d_out"]) -> Change:
    """As long as another change at every token, in a direction of one's own."""
    unit = direction / direction.norm().clamp_min(1e-12)
    return lambda seen: change(seen).norm(dim=1, keepdim=True) * unit


def like_feature_change(
    sae: Sae, edit: Edit, seen: Seen, seed: int
) -> tuple[Change, tuple[int, ...]]:
    """The same done to other features of like strength on these tokens, and which: a control.

    Strength is the summed length of what a feature writes. Ablating and scaling act on the other
    features' own activations; clamping and adding write as much as the edit does, along the other
    features' directions.
    """
    strength = seen.codes.abs().sum(0) * sae.write_directions.norm(dim=1)
    active = (strength > 0).nonzero()[:, 0].tolist()
    taken = set(edit.feature_ids)
    generator = torch.Generator().manual_seed(seed)
    chosen: list[int] = []
    for feature in edit.feature_ids:
        others = [f for f in active if f not in taken] or [
            f for f in range(sae.d_sae) if f not in taken
        ]
        if not others:
            break
        own = float(strength[feature])
        if own > 0:
            others = sorted(others, key=lambda f: abs(float(strength[f]) - own))[:_LIKE]
        pick = others[int(torch.randint(len(others), (1,), generator=generator))]
        taken.add(pick)
        chosen.append(pick)
    if not chosen:
        return (lambda seen: torch.zeros_like(seen.target)), ()
    ids = tuple(chosen)
    if edit.kind in ("ablate", "scale"):
        return feature_change(sae, Edit(ids, edit.kind, edit.value)), ids
    return along(feature_change(sae, edit), sae.write_directions[list(ids)].sum(0)), ids
