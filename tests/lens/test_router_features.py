"""Rows that a router reads are the SAE's own features."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from energylens.errors import SaeError
from energylens.lens.router_features import block_after, feature_rows
from energylens.lens.saes import Sae, load_saes
from energylens.mesanet.config import MesaNetConfig
from energylens.mesanet.features import RouterFeatures
from tests.conftest import D_MODEL, make_sae


def loaded(folder: Path, kind: str, hook: str = "blocks.1.hook_resid_post", **known: Any) -> Sae:
    module = make_sae(kind, hook, **known)
    generator = torch.Generator().manual_seed(3)
    for weights in (module.b_enc, module.b_dec):
        weights.data = torch.randn(weights.shape, generator=generator) / 3
    module.cfg.apply_b_dec_to_input = True
    module.save_model(folder / kind)
    return load_saes([str(folder / kind)])[0]


@pytest.mark.parametrize("kind", ["standard", "jumprelu"])
@torch.no_grad()
def test_the_rows_give_what_the_sae_encodes(kind: str, tmp_path: Path) -> None:
    sae = loaded(tmp_path, kind)
    features, scale = [30, 2, 17], torch.tensor([1.0, 2.0, 4.0])
    config = MesaNetConfig(hidden_size=D_MODEL, num_hidden_layers=3, router_features=3)
    shown = RouterFeatures(config)
    shown.take(feature_rows(sae, features, scale))
    x = torch.randn(4, 9, D_MODEL, generator=torch.Generator().manual_seed(1))
    expected = sae.encode(x)[..., features] / scale
    torch.testing.assert_close(shown.codes(x), expected)
    assert 0.2 < (expected > 0).float().mean() < 0.8


def test_the_block_is_the_one_after_the_stream_that_is_read(tmp_path: Path) -> None:
    for hook, layer in (
        ("blocks.1.hook_resid_post", 2),
        ("blocks.2.hook_resid_pre", 2),
        ("blocks.0.hook_resid_pre", 0),
    ):
        assert block_after(loaded(tmp_path, "standard", hook), 3) == layer
    for hook in ("blocks.2.hook_resid_post", "blocks.1.hook_mlp_out", "blocks.1.hook_resid_mid"):
        sae = loaded(tmp_path, "standard", hook)
        with pytest.raises(SaeError, match=rf"reads '{re.escape(hook)}'.*to blocks\.1"):
            block_after(sae, 3)


def test_features_that_depend_on_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SaeError, match="is a topk SAE; train one with"):
        feature_rows(loaded(tmp_path, "topk"), [1], torch.ones(1))
    sae = loaded(tmp_path, "standard")
    sae.module.cfg.normalize_activations = "layer_norm"
    with pytest.raises(SaeError, match="scales each input"):
        feature_rows(sae, [1], torch.ones(1))
