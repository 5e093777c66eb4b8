"""Logit weights and neighbours against dense numpy."""

import numpy as np
import pytest
import torch
from scipy.stats import kurtosis, skew

from energylens.lens import directions
from energylens.lens.directions import N_BINS, logit_weights, neighbours
from energylens.lens.readout import FinalNorm, ReadOut


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
def test_logit_weights_equal_the_dense_product(kind, monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    gain, W_U = torch.rand(6, generator=generator) + 0.5, torch.randn(6, 20, generator=generator)
    readout = ReadOut(FinalNorm(kind, gain, torch.randn(6), 1e-5), W_U, torch.randn(20))
    W_dec = torch.randn(9, 6, generator=generator)
    mask = torch.ones(20, dtype=torch.bool)
    mask[[3, 17]] = False
    monkeypatch.setattr(directions, "_CHUNK_NUMBERS", 20 * 4)
    parts = list(logit_weights(readout, W_dec, 5, mask))
    d = W_dec.numpy().astype(np.float64)
    if kind == "layer_norm":
        d = d - d.mean(1, keepdims=True)
    full = d @ (gain.numpy()[:, None] * W_U.numpy())
    full -= full.mean(1, keepdims=True)
    full[:, [3, 17]] = np.nan
    order = np.argsort(np.where(np.isnan(full), -np.inf, full), axis=1)[:, ::-1][:, :5]
    assert len(parts) == 3 and [part.first for part in parts] == [0, 4, 8]
    assert np.concatenate([part.top_ids.numpy() for part in parts]).tolist() == order.tolist()
    values = np.concatenate([part.top_values.numpy() for part in parts])
    np.testing.assert_allclose(values, np.take_along_axis(full, order, 1), rtol=1e-5, atol=1e-5)
    own = np.delete(full, [3, 17], axis=1)
    spreads = [part.spread for part in parts]
    for name, moment in (
        ("mean", own.mean(1)), ("std", own.std(1)), ("skewness", skew(own, axis=1)),
        ("kurtosis", kurtosis(own, axis=1, fisher=False)),
    ):  # fmt: skip
        found = np.concatenate([getattr(spread, name).numpy() for spread in spreads])
        np.testing.assert_allclose(found, moment, rtol=1e-4, atol=1e-5)
    counts = np.concatenate([spread.counts.numpy() for spread in spreads])
    expected = np.stack([np.histogram(row, N_BINS)[0] for row in own])
    assert (counts.sum(1) == 18).all() and np.abs(counts - expected).sum() <= 2, "but at an edge"
    lowest = np.concatenate([part.bottom_values.numpy() for part in parts])[:, 0]
    np.testing.assert_allclose(lowest, np.nanmin(full, axis=1), rtol=1e-5, atol=1e-5)


def test_neighbours_equal_the_cosine_matrix(monkeypatch) -> None:
    W_dec = (
        torch.randn(11, 4, generator=torch.Generator().manual_seed(1))
        * torch.arange(1, 12)[:, None]
    )
    monkeypatch.setattr(directions, "_CHUNK_NUMBERS", 11 * 3)
    unit = (W_dec / W_dec.norm(dim=1, keepdim=True)).double().numpy()
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    seen = 0
    for first, ids, values in neighbours(W_dec, 3):
        for row in range(len(ids)):
            expected = np.argsort(cosine[first + row])[::-1][:3]
            assert ids[row].tolist() == expected.tolist()
            np.testing.assert_allclose(values[row], cosine[first + row, expected], rtol=1e-5)
            seen += 1
    assert seen == 11


def test_a_dictionary_of_one_feature_has_no_neighbours() -> None:
    ((first, ids, _),) = neighbours(torch.ones(1, 3), 10)
    assert (first, ids.shape) == (0, (1, 0))
