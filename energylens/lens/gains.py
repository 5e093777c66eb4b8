"""Gains of an SAE's features: how much more, or less, of each is written.

    h' = h + s * sum_f a_f z_f d_f

with z the codes of the pass at a token, d_f what one unit of f writes (`Sae.write_directions`), s
the SAE's scale at the token where it has one, at every token but BOS. That is the SAE's output with
each decoder direction multiplied by 1 + a_f, its error term kept: 0 changes nothing, -1 ablates.
With E the mean energy of some tokens, g = -dE'/dz and E' the sum of those energies,

    dE/da_f at a = 0  =  -mean(z_f g_f)

exactly, so the gradients that attribution uses say which way to turn each feature.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from energylens.errors import UsageError
from energylens.lens.interventions import Change, Seen
from energylens.lens.models import LanguageModel
from energylens.lens.sae_config import check_header
from energylens.lens.saes import Sae

KIND = "energylens gains 1"
_TENSORS = {"features", "gains"}
_SAME = ("model_sha256", "sae_sha256", "hook_name", "target_hook", "head")
"""What must be what it was when the gains were learned."""


@dataclass(frozen=True)
class Gains:
    """Gains of some features, and what they were learned for."""

    features: tuple[int, ...]
    gains: tuple[float, ...]
    about: Mapping[str, str]
    """Names and checksums of model and SAE, and how the gains were learned."""

    def dense(self, d_sae: int) -> Float[Tensor, " d_sae"]:
        """One gain a feature, 0 where there is none."""
        found = torch.zeros(d_sae)
        found[list(self.features)] = torch.tensor(self.gains)
        return found


def gain_change(sae: Sae, gains: Float[Tensor, " d_sae"]) -> Change:
    """The change that gains make at each token."""
    features = gains.nonzero()[:, 0]
    written = gains[features, None].float() * sae.write_directions[features]

    def change(seen: Seen) -> Tensor:
        return (seen.codes[:, features] @ written) * seen.write_scale

    return change


def other_directions(sae: Sae, gains: Float[Tensor, " d_sae"], seed: int) -> Change:
    """As gains, but each feature writes along a random direction of its own, and the whole is at
    every token as long as what the gains write: a control of equal power."""
    own = gain_change(sae, gains)
    features = gains.nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(features), sae.write_directions.shape[1], generator=generator)
    lengths = sae.write_directions[features].norm(dim=1) / drawn.norm(dim=1)
    drawn = gains[features, None].float() * lengths[:, None] * drawn

    def change(seen: Seen) -> Tensor:
        made = seen.codes[:, features] @ drawn
        wanted = own(seen).norm(dim=1, keepdim=True)
        return made * (wanted / made.norm(dim=1, keepdim=True).clamp_min(1e-12))

    return change


def about(model: LanguageModel, sae: Sae, **learned: object) -> dict[str, str]:
    """What gains of an SAE belong to, as their file says it."""
    return {
        "kind": KIND,
        "model": model.source,
        "model_sha256": model.weights_sha256,
        "sae_id": sae.sae_id,
        "sae_sha256": sae.weights_sha256,
        "hook_name": sae.hook_name,
        "target_hook": sae.target_hook,
        "head": json.dumps(sae.head),
        **{name: str(value) for name, value in learned.items()},
    }


def gains_bytes(gains: Gains) -> bytes:
    """Gains as a safetensors file."""
    tensors = {
        "features": torch.tensor(gains.features, dtype=torch.int32),
        "gains": torch.tensor(gains.gains, dtype=torch.float32),
    }
    return save(tensors, dict(gains.about))


def read_gains(path: Path) -> Gains:
    """Gains from a file.

    Raises:
        UsageError: it is not there, cut, or no file of gains.
    """
    if not path.is_file():
        raise UsageError(f"there is no file '{path}'; give one that energylens repair wrote")
    try:
        check_header(path)
        with safe_open(path, "pt") as file:
            known = file.metadata() or {}
            if known.get("kind") != KIND or set(file.keys()) != _TENSORS:
                raise UsageError(
                    f"'{path}' holds no gains; give a file that energylens repair wrote"
                )
            features, gains = file.get_tensor("features"), file.get_tensor("gains").float()
    except (OSError, ValueError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(
            f"the gains '{path}' cannot be read: {reason}; give a file that energylens repair wrote"
        ) from error
    is_whole = (
        features.ndim == gains.ndim == 1
        and not features.is_floating_point()
        and len(features) == len(gains) == len(features.unique())
    )
    if not is_whole or not bool(gains.isfinite().all()):
        raise UsageError(f"the gains '{path}' are damaged; write them again with energylens repair")
    return Gains(tuple(features.tolist()), tuple(gains.tolist()), known)


def check_gains(gains: Gains, model: LanguageModel, sae: Sae) -> None:
    """Make sure that gains were learned for this model and SAE.

    Raises:
        UsageError: they were not; the message says which differs.
    """
    mine = about(model, sae)
    for name in _SAME:
        if gains.about.get(name) == mine[name]:
            continue
        is_model = name == "model_sha256"
        what, their = ("model", "model") if is_model else ("SAE", "sae_id")
        raise UsageError(
            f"these gains were learned for another {what}: '{gains.about.get(their)}', while this "
            f"is '{mine[their]}' with other {'weights' if 'sha256' in name else name}; gains fit "
            "only what they were learned for: run energylens repair"
        )
    wrong = [f for f in gains.features if not 0 <= f < sae.d_sae]
    if wrong:
        raise UsageError(
            f"these gains name feature {wrong[0]}, but '{sae.sae_id}' has 0 to {sae.d_sae - 1}"
        )
