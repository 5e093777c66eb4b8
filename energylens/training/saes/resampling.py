"""Resampling of dead features (Bricken et al. 2023, "Towards Monosemanticity", appendix on
neuron resampling).

Each dead feature takes the direction of an input that is reconstructed badly, drawn with a
probability in proportion to the square of its loss; its encoder is that direction at .2 of the mean
norm of living encoders, its bias 0, and the optimiser forgets what it knew of them. There,
dictionary vectors have norm 1; here decoders have the norm that training gives them, so the new
one has the mean norm of the living.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from energylens.training.saes.trainee import Trainee

_ENCODER_SHARE = 0.2
_ROWS = 4096
"""Inputs whose loss is computed at once."""


@torch.no_grad()
def resample(
    trainee: Trainee, pool: Float[Tensor, "n d_in"], silent_steps: int, seed: tuple[int, ...]
) -> int:
    """Give the features that have been silent for `silent_steps` new directions, drawn from `pool`;
    how many they were."""
    trainer, sae = trainee.trainer, trainee.sae
    dead = trainer.n_forward_passes_since_fired >= silent_steps
    n_dead = int(dead.sum())
    if not n_dead or n_dead == len(dead):
        return 0
    scaled = trainer.activation_scaler(pool)
    losses = torch.cat(
        [(sae.decode(sae.encode(x)) - x).square().sum(1) for x in scaled.split(_ROWS)]
    )
    weights = losses.double().square().numpy()
    if not weights.sum() > 0:
        return 0
    drawn = np.random.default_rng(seed).choice(len(pool), n_dead, p=weights / weights.sum())
    directions = scaled[torch.from_numpy(drawn)] - sae.b_dec
    directions = directions / directions.norm(dim=1, keepdim=True).clamp_min(1e-12)
    sae.W_dec[dead] = directions * sae.W_dec[~dead].norm(dim=1).mean()
    sae.W_enc[:, dead] = directions.T * _ENCODER_SHARE * sae.W_enc[:, ~dead].norm(dim=0).mean()
    sae.b_enc[dead] = 0.0
    for parameter, place in (
        (sae.W_dec, dead),
        (sae.W_enc, (slice(None), dead)),
        (sae.b_enc, dead),
    ):
        for name in ("exp_avg", "exp_avg_sq"):
            trainer.optimizer.state[parameter][name][place] = 0.0
    trainer.n_forward_passes_since_fired[dead] = 0.0
    return n_dead
