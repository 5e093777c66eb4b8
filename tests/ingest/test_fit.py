"""Whether an SAE fits the model it is run on: what the gate says, and how contexts begin."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from energylens.errors import CheckRefusedError, UsageError
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.lens.models import load_model
from energylens.lens.saes import load_saes
from tests.conftest import VOCAB, make_gpt2, make_sae, make_tokenizer


def test_the_gate_refuses_an_sae_of_another_scale_and_can_be_overridden(
    config: IngestConfig, tmp_path: Path
) -> None:
    sae = make_sae("standard", "blocks.1.hook_resid_post", d_sae=48)
    with torch.no_grad():
        sae.W_dec *= 3
    sae.save_model(tmp_path / "scaled")
    wrong = replace(config, saes=(str(tmp_path / "scaled"),))
    with pytest.raises(CheckRefusedError, match=r"variance unexplained.*--accept-gate") as refused:
        prepare(tmp_path / "x.lens", load(wrong))
    assert refused.value.exit_code == 3
    prepared = prepare(tmp_path / "x.lens", load(replace(wrong, accept_gate=True)))
    assert prepared.run.saes[0].gate.startswith("overridden: scaled: it leaves")
    with pytest.raises(CheckRefusedError):
        prepare(tmp_path / "x.lens", load(wrong))


def test_another_layers_stream_is_seen_by_the_gate(
    save_model: Callable[..., Path], config: IngestConfig, tmp_path: Path
) -> None:
    """An SAE whose bias fits one hook is refused at another."""
    model = load_model(str(save_model(make_gpt2(seed=1))))
    sae = make_sae("standard", "blocks.0.hook_mlp_out", d_sae=24)  # half of the directions only
    with torch.no_grad():
        sae.b_dec.fill_(40.0)
    sae.save_model(tmp_path / "sae")
    with pytest.raises(CheckRefusedError):
        prepare(
            tmp_path / "x.lens",
            load(replace(config, model=model.source, saes=(str(tmp_path / "sae"),))),
        )


def test_an_sae_of_short_training_is_told_apart_from_one_of_another_hook(
    config: IngestConfig, tmp_path: Path
) -> None:
    sae = make_sae("jumprelu", "blocks.1.hook_resid_post", d_sae=48, declared_l0=2)
    sae.save_model(tmp_path / "short")
    short = load(replace(config, saes=(str(tmp_path / "short"),)))
    with pytest.raises(CheckRefusedError, match="thresholds have not converged"):
        prepare(tmp_path / "x.lens", short)


@pytest.mark.parametrize("has_eos", [True, False])
def test_an_sae_trained_with_bos_where_the_tokenizer_has_none(
    save_model: Callable[..., Path], config: IngestConfig, tmp_path: Path, has_eos: bool
) -> None:
    tokenizer = make_tokenizer()
    end = "e" if has_eos else None
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token=end)
    own = replace(config, model=str(save_model(make_gpt2(), bare)))
    assert load_saes(list(own.saes))[0].prepend_bos
    loaded = load(own)
    assert loaded.corpus.bos_id == bare.eos_token_id
    (notice,) = loaded.notices
    assert "has no BOS token and an SAE declares that it was trained with one" in notice
    assert ("begin with its EOS, 'e'" if has_eos else "has no EOS either") in notice
    assert loaded.notices == tuple(prepare(tmp_path / "x.lens", loaded).run.notices)
    if has_eos:
        assert load(replace(own, prepend_bos=True)).corpus.bos_id == bare.eos_token_id
    else:
        with pytest.raises(UsageError, match=r"neither a BOS nor an EOS.*leave out --bos"):
            load(replace(own, prepend_bos=True))
    quiet = load(replace(own, prepend_bos=False))
    assert quiet.corpus.bos_id is None and not quiet.notices


def test_saes_that_disagree_about_bos_need_a_decision(config: IngestConfig, tmp_path: Path) -> None:
    for name, bos in (("with", True), ("without", False)):
        sae = make_sae("standard", "blocks.1.hook_resid_post", d_sae=48)
        sae.cfg.metadata.prepend_bos = bos
        sae.save_model(tmp_path / name)
    with pytest.raises(UsageError, match="some of the SAEs were trained with BOS"):
        load(replace(config, saes=(str(tmp_path),)))
    loaded = load(replace(config, saes=(str(tmp_path),), prepend_bos=False))
    assert loaded.corpus.bos_id is None


@pytest.mark.parametrize("which", ["bos_token", "eos_token"])
def test_a_beginning_that_the_embedding_does_not_hold_is_refused(
    save_model: Callable[..., Path], config: IngestConfig, which: str
) -> None:
    """The token of its own was added to the tokenizer; EOS is what stands in for BOS."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=make_tokenizer().backend_tokenizer)
    while len(tokenizer) < VOCAB:
        tokenizer.add_tokens([f"<{len(tokenizer)}>"])
    tokenizer.add_special_tokens({which: "<begin>"})
    own = replace(config, model=str(save_model(make_gpt2(), tokenizer)), saes=())
    asked = replace(own, prepend_bos=True if which == "eos_token" else None)
    message = f"begin with '<begin>', whose id is {VOCAB}, but .* knows {VOCAB} .*--no-bos"
    with pytest.raises(UsageError, match=message):
        load(asked)
    assert load(replace(own, prepend_bos=False)).corpus.bos_id is None
