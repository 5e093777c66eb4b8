"""Steered text: what the model writes with features held or added, and what that cost it."""

from dataclasses import replace

import torch
from torch import Tensor

from energylens.errors import UsageError
from energylens.ingest.on_request.conditions import judge, trigger_of
from energylens.ingest.on_request.intervene import edit_of
from energylens.ingest.on_request.reopen import Reopened
from energylens.ingest.progress import Progress
from energylens.lens.conditions import Trigger
from energylens.lens.energy import lens_energies
from energylens.lens.gate import encode_tokens
from energylens.lens.interventions import Edit, Intervention, feature_change
from energylens.lens.models import run_hooks
from energylens.lens.saes import Sae
from energylens.lens.steering import distinct_pairs, generate, perplexity
from energylens.protocol import SteeredText, SteeringRequest, SteeringResult


def steer(reopened: Reopened, asked: SteeringRequest, progress: Progress) -> SteeringResult:
    """Continue a prompt at every strength, 0 first.

    Raises:
        UsageError: the prompt leaves no room in the model's context, or the edit cannot be made.
    """
    sae = reopened.sae(asked.edit.sae_id)
    edit = edit_of(reopened, asked.edit)
    if edit.kind not in ("add", "clamp"):
        raise UsageError("steering adds to features or clamps them; to remove one: intervene")
    when = trigger_of(reopened, sae, asked.edit)
    prompt = torch.tensor(reopened.context(asked.prompt).ids)
    if len(prompt) >= reopened.model.n_ctx:
        raise UsageError(f"the prompt fills the model's context of {reopened.model.n_ctx} tokens")
    strengths = list(dict.fromkeys([0.0, *asked.strengths]))
    texts = []
    for number, strength in enumerate(strengths):
        done = number * asked.n_tokens

        def tick(new: Tensor, done: int = done, strength: float = strength) -> None:
            total = len(strengths) * asked.n_tokens
            progress.step("steering", done + len(new), total, "tokens")
            progress.preview(f"{strength:g}: {reopened.model.tokenizer.decode(new.tolist())}")

        made = _intervention(reopened, sae, edit, strength, when)
        new = generate(
            reopened.model, prompt, made, asked.n_tokens, asked.temperature, asked.seed, tick
        )
        texts.append(_judged(reopened, sae, edit, strength, prompt, new, made))
    return SteeringResult(asked.prompt, texts, judge(reopened, asked.edit))


def _intervention(
    reopened: Reopened, sae: Sae, edit: Edit, strength: float, when: Trigger | None
) -> Intervention | None:
    if strength == 0.0:
        return None
    change = feature_change(sae, replace(edit, value=strength))
    return Intervention(sae, change, reopened.model.bos_id, when=when)


def _judged(
    reopened: Reopened,
    sae: Sae,
    edit: Edit,
    strength: float,
    prompt: Tensor,
    new: Tensor,
    made: Intervention | None,
) -> SteeredText:
    """The continuation as the model reads it without any edit; the activation with it too."""
    ids = torch.cat([prompt, new])[None]
    mask = torch.ones_like(ids, dtype=torch.bool)
    last = reopened.last_hook
    _, cache = run_hooks(reopened.model, ids, mask.long(), [sae.hook_name, last])
    before = cache[last][0, len(prompt) - 1 : -1]
    energies = lens_energies(reopened.model.readout, before, new).energy
    plain = _activation(sae, edit, cache[sae.hook_name], mask, len(prompt))
    steered, acted = plain, torch.zeros_like(mask)
    if made is not None:
        masks: list[Tensor] = []
        edits = replace(made, told=masks.append).hooks(ids, mask)
        _, held = run_hooks(reopened.model, ids, mask.long(), [sae.hook_name], edits=edits)
        steered, acted = _activation(sae, edit, held[sae.hook_name], mask, len(prompt)), masks[0]
    return SteeredText(
        strength=strength,
        text=reopened.model.tokenizer.decode(new.tolist()),
        activation=plain,
        perplexity=perplexity(energies),
        distinct=distinct_pairs(new.tolist()),
        activation_steered=steered,
        n_acted=int(acted.sum()),
        n_read=int((ids != reopened.model.bos_id).sum()),
    )


def _activation(sae: Sae, edit: Edit, value: Tensor, mask: Tensor, begin: int) -> float:
    """The mean activation of the features over the tokens from `begin` on; NaN without one."""
    with torch.no_grad():
        codes = encode_tokens(sae, value, mask)[begin:]
    return float(codes[:, list(edit.feature_ids)].float().mean()) if len(codes) else float("nan")
