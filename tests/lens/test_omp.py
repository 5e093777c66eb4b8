"""Orthogonal matching pursuit against scikit-learn's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import linear_model

from energylens.errors import SaeError
from energylens.lens import omp
from energylens.lens.omp import pursue
from energylens.lens.saes import load_saes
from tests.conftest import D_MODEL, make_sae


@pytest.mark.parametrize("k", [1, 5])
def test_codes_are_those_of_scikit_learn(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(omp, "_CHUNK_NUMBERS", 96 * 100)
    generator = np.random.default_rng(0)
    directions = generator.normal(size=(96, 24)) * generator.uniform(0.2, 3, size=(96, 1))
    x = generator.normal(size=(256, 24))
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    theirs = np.asarray(linear_model.orthogonal_mp(unit.T, x.T, n_nonzero_coefs=k)).T
    ours = pursue(torch.from_numpy(x).float(), torch.from_numpy(directions).float(), k).numpy()
    assert (np.count_nonzero(ours, axis=1) == k).all()
    np.testing.assert_allclose(
        ours * np.linalg.norm(directions, axis=1), theirs, rtol=1e-4, atol=1e-4
    )


def test_a_token_that_is_spelt_by_fewer_has_fewer() -> None:
    directions = torch.eye(8) * 2
    x = torch.zeros(3, 8)
    x[1, 4], x[2, 1], x[2, 6] = -6.0, 1.0, 3.0
    codes = pursue(x, directions, 5)
    expected = torch.zeros(3, 8)
    expected[1, 4], expected[2, 1], expected[2, 6] = -3.0, 0.5, 1.5
    torch.testing.assert_close(codes, expected)


def test_a_k_that_cannot_be_is_said() -> None:
    for k in (0, 9):
        with pytest.raises(ValueError, match=r"k is . it has to be from 1 to 8|k is"):
            pursue(torch.zeros(1, 8), torch.eye(8), k)


def test_a_dictionary_answers_as_an_sae(saes_dir: Path) -> None:
    own, mlp = load_saes([str(saes_dir / "resid")])[0], str(saes_dir / "mlp")
    (sae,) = load_saes([f"{saes_dir / 'resid'}@omp:3"])
    assert (sae.sae_id, sae.architecture, sae.declared_l0) == ("resid-omp3", "omp:3", None)
    assert sae.weights_sha256 != own.weights_sha256 and sae.hook_name == own.hook_name
    x = torch.randn(2, 7, D_MODEL, generator=torch.Generator().manual_seed(2))
    codes = sae.encode(x)
    W_dec, b_dec = (p.detach().numpy() for p in (own.module.W_dec, own.module.b_dec))
    theirs = linear_model.orthogonal_mp(
        W_dec.T, (x.numpy() - b_dec).reshape(-1, D_MODEL).T, n_nonzero_coefs=3
    )
    np.testing.assert_allclose(
        codes.reshape(14, -1).numpy(), np.asarray(theirs).T, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(
        sae.reconstruct(x).reshape(14, -1).numpy(),
        np.asarray(theirs).T @ W_dec + b_dec,
        rtol=1e-4,
        atol=1e-4,
    )
    assert [one.sae_id for one in load_saes([f"{saes_dir}@omp:2"])] == ["mlp-omp2", "resid-omp2"]
    with pytest.raises(SaeError, match=r"omp:99 asks for more directions a token .* 24 at most"):
        load_saes([f"{mlp}@omp:99"])


def test_a_decoder_that_scales_is_refused(tmp_path: Path) -> None:
    sae = make_sae("standard", "blocks.0.hook_resid_post")
    sae.cfg.normalize_activations = "layer_norm"
    sae.save_model(tmp_path)
    with pytest.raises(SaeError, match=r"does not add up directions .* leave out omp"):
        load_saes([f"{tmp_path}@omp:3"])
