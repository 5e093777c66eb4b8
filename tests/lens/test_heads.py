"""SAEs that read one attention head (hook_head_index), against the head cut out by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch

from energylens.errors import SaeError
from energylens.lens.gate import ce_losses, encode_tokens
from energylens.lens.interventions import Edit, Intervention, feature_change
from energylens.lens.models import LanguageModel, run_hooks
from energylens.lens.saes import Sae, check_fit, load_saes
from tests.conftest import D_MODEL, make_sae

HOOK = "blocks.1.attn.hook_z"
D_HEAD = D_MODEL // 2
IDS = torch.randint(1, 200, (2, 9), generator=torch.Generator().manual_seed(3))
MASK = torch.ones_like(IDS, dtype=torch.bool)


def _of_head(head: Any, tmp_path: Path, hook: str = HOOK, **metadata: Any) -> Sae:
    original = make_sae("standard", hook, D_HEAD, 2 * D_HEAD, hook_head_index=head, **metadata)
    original.save_model(tmp_path / "sae")
    (sae,) = load_saes([str(tmp_path / "sae")])
    return sae


def _logits(model: LanguageModel, edit: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.bridge.run_with_hooks(IDS, fwd_hooks=[(HOOK, edit)])


def _without(head: int) -> Any:
    """A hook that cuts a head out by hand."""

    def edit(value: torch.Tensor, hook: object) -> torch.Tensor:
        split = value.clone().reshape(*IDS.shape, 2, D_HEAD)
        split[:, :, head] = 0
        return split.reshape(value.shape)

    return edit


@pytest.mark.parametrize("head", [0, 1])
@pytest.mark.parametrize("laid_out", ["heads", "side by side"])
def test_the_head_is_read(head: int, laid_out: str, tmp_path: Path) -> None:
    sae = _of_head(head, tmp_path)
    z = torch.randn(2, 9, 2, D_HEAD, generator=torch.Generator().manual_seed(0))
    expected = torch.relu(z[:, :, head] @ sae.module.W_enc).flatten(0, 1)
    given = z if laid_out == "heads" else z.flatten(2)
    with torch.no_grad():
        torch.testing.assert_close(encode_tokens(sae, given, MASK), expected)


@pytest.mark.parametrize("head", [0, 1])
def test_only_the_head_is_written(head: int, gpt2: LanguageModel, tmp_path: Path) -> None:
    sae = _of_head(head, tmp_path)
    clean, spliced, ablated, n = ce_losses(gpt2, sae, IDS, MASK)
    assert spliced == pytest.approx(clean, rel=1e-5), "it reconstructs its head"
    log_p = _logits(gpt2, _without(head))[:, :-1].log_softmax(-1)
    by_hand = -float(log_p.gather(-1, IDS[:, 1:, None]).sum())
    assert ablated == pytest.approx(by_hand, rel=1e-5)
    assert n == 16 and abs(by_hand - clean) > 1e-3


def test_ablating_all_features_cuts_the_head_out(gpt2: LanguageModel, tmp_path: Path) -> None:
    sae = _of_head(1, tmp_path)
    change = feature_change(sae, Edit(tuple(range(sae.d_sae)), "ablate"))
    edits = Intervention(sae, change, gpt2.bos_id).hooks(IDS, MASK)
    logits, _ = run_hooks(gpt2, IDS, MASK.long(), [HOOK], edits=edits)
    torch.testing.assert_close(logits, _logits(gpt2, _without(1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 2, 2, D_HEAD), (1, 2, D_MODEL), (1, 2, 4, D_HEAD + 1)])
def test_a_head_the_model_lacks_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    sae = _of_head(2, tmp_path)
    with pytest.raises(SaeError, match=r"reads head 2 of heads of width .* \(hook_head_index\)"):
        check_fit(sae, torch.zeros(shape))


def test_a_stream_has_no_heads(tmp_path: Path) -> None:
    sae = _of_head(0, tmp_path, hook="blocks.1.hook_resid_post")
    with pytest.raises(SaeError, match=r"head 0 .*hook_resid_post' has no attention heads"):
        check_fit(sae, torch.zeros(1, 2, D_MODEL))


@pytest.mark.parametrize("head", [-1, "two", 1.5])
def test_what_is_no_head_is_refused(head: object, tmp_path: Path) -> None:
    with pytest.raises(SaeError, match="hook_head_index is"):
        _of_head(head, tmp_path)


def test_a_transcoder_of_a_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SaeError, match=r"transcoder .* reads one attention head"):
        _of_head(0, tmp_path, hook_name_out="blocks.1.hook_attn_out")
