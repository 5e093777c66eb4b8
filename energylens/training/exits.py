"""What training adds for a MesaNet whose blocks are exits."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from energylens.mesanet.model import MesaNetForCausalLM


def exit_loss(
    model: MesaNetForCausalLM,
    hidden_states: tuple[Float[Tensor, "batch n_ctx d_model"], ...] | None,
    windows: Int[Tensor, "batch n_ctx"],
    energy: Float[Tensor, " n"],
    head_weight: float,
) -> Float[Tensor, ""]:
    """For each block but the last, the energy of the next token when read out there, by the
    model's `exit_weight`, and the squared errors of its heads.

    `hidden_states` begin with the embedding; `energy` is that of the model's output, at the n
    tokens that have a next one. The mean of the drop is what stopping costs, so the error is
    squared. Heads pass no gradient on.
    """
    assert hidden_states is not None and model.exit_heads is not None, "a model with exits"
    wanted, loss = windows[:, 1:].flatten(), energy.new_zeros(())
    for layer, x in enumerate(hidden_states[1:-1]):
        stream = x[:, :-1].flatten(0, 1)
        here = functional.cross_entropy(
            model.lm_head(model.ln_final(stream)), wanted, reduction="none"
        )
        loss = loss + model.config.exit_weight * here.mean()
        foretold = model.exit_heads(layer, stream)
        true = torch.stack([here.detach() - energy, here.detach()], dim=-1)
        loss = loss + head_weight * functional.mse_loss(foretold, true[:, : foretold.shape[1]])
    return loss
