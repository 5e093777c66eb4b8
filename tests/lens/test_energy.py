"""Energies and their gradients against torch's cross-entropy and autograd."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from energylens.lens import energy
from energylens.lens.energy import NO_NEXT, lens_energies
from energylens.lens.readout import FinalNorm, NormKind, ReadOut

KINDS: tuple[NormKind, ...] = ("layer_norm", "rms_norm", "none")


def make_readout(
    kind: NormKind, d_model: int = 12, d_vocab: int = 30, seed: int = 0, **changes: Any
) -> ReadOut:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    norm = FinalNorm(kind, 1 + 0.3 * normal(d_model), 0.1 * normal(d_model), 1e-5)
    return ReadOut(norm=norm, W_U=normal(d_model, d_vocab), b_U=normal(d_vocab), **changes)


def plain_loss(readout: ReadOut, h: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The same energy written with torch's own norms and loss, in the precision of h."""
    norm, size = readout.norm, h.shape[-1:]
    gain, bias = norm.gain.to(h.dtype), norm.bias.to(h.dtype)
    if norm.kind == "layer_norm":
        normed = torch.nn.functional.layer_norm(h, size, gain, bias, norm.eps)
    elif norm.kind == "rms_norm":
        normed = torch.nn.functional.rms_norm(h, size, gain, norm.eps) + bias
    else:
        normed = gain * h + bias
    assert readout.b_U is not None
    logits = (normed @ readout.W_U.to(h.dtype) + readout.b_U.to(h.dtype)) * readout.logit_scale
    if readout.softcap:
        logits = readout.softcap * torch.tanh(logits / readout.softcap)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{}, {"softcap": 3.0}, {"logit_scale": 0.25}])
def test_energy_and_gradient_equal_autograd(kind: NormKind, changes: dict[str, Any]) -> None:
    readout = make_readout(kind, **changes)
    h = 2 * torch.randn(50, 12, generator=torch.Generator().manual_seed(1)) + 0.5
    targets = torch.arange(50) % 30
    exact = h.double().requires_grad_(True)
    loss = plain_loss(readout, exact, targets)
    (gradient,) = torch.autograd.grad(loss.sum(), exact)
    found = lens_energies(readout, h, targets, with_gradient=True)
    assert found.gradient is not None
    torch.testing.assert_close(found.energy.double(), loss.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.gradient.double(), gradient, rtol=1e-5, atol=1e-5)


@given(st.sampled_from(["layer_norm", "rms_norm"]), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_gradient_is_orthogonal_to_what_the_norm_ignores(kind: NormKind, seed: int) -> None:
    readout = make_readout(kind, seed=seed)
    h = 5 * torch.randn(8, 12, generator=torch.Generator().manual_seed(seed))
    found = lens_energies(readout, h, torch.arange(8), with_gradient=True).gradient
    assert found is not None
    scale = found.norm(dim=1)
    assert ((found * readout.norm.centre(h)).sum(1).abs() < 1e-3 * (1 + scale)).all()
    if kind == "layer_norm":
        assert (found.sum(1).abs() < 1e-4 * (1 + scale)).all()


def test_entropy_confidence_rank_and_top_follow_from_the_distribution() -> None:
    readout = make_readout("layer_norm")
    h = torch.randn(40, 12, generator=torch.Generator().manual_seed(2))
    targets = torch.arange(40) % 30
    p = readout.logits(h).double().softmax(-1)
    found = lens_energies(readout, h, targets)
    torch.testing.assert_close(found.entropy.double(), -(p * p.log()).sum(-1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.confidence.double(), p.amax(-1), rtol=1e-5, atol=1e-6)
    order = p.argsort(-1, descending=True)
    expected = (order == targets[:, None]).nonzero()[:, 1]
    assert found.rank.tolist() == expected.tolist()
    assert found.top_vocab_id.tolist() == order[:, 0].tolist()


def test_improbable_tokens_are_not_clipped() -> None:
    readout = ReadOut(
        FinalNorm("none", torch.ones(2), torch.zeros(2), 0.0),
        torch.tensor([[60.0, 0.0], [0.0, 0.0]]),
        None,
    )
    found = lens_energies(readout, torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert found.energy.item() == pytest.approx(60.0)  # -ln(1e-10) is 23.03
    assert math.isfinite(found.entropy.item())


def test_no_next_token_has_no_energy_rank_or_gradient() -> None:
    readout = make_readout("rms_norm")
    found = lens_energies(readout, torch.randn(2, 12), torch.tensor([NO_NEXT, 0]), True)
    assert found.gradient is not None
    assert found.energy.isnan().tolist() == [True, False]
    assert found.rank[0] == -1
    assert found.gradient.isnan().all(1).tolist() == [True, False]


def test_no_tokens_at_all() -> None:
    found = lens_energies(make_readout("rms_norm"), torch.zeros(0, 12), torch.zeros(0).long())
    assert found.energy.shape == (0,)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    readout = make_readout("layer_norm")
    h, targets = torch.randn(23, 12), torch.arange(23)
    whole = lens_energies(readout, h, targets, with_gradient=True)
    monkeypatch.setattr(energy, "_CHUNK_NUMBERS", 30 * 4)
    cut = lens_energies(readout, h, targets, with_gradient=True)
    assert whole.gradient is not None and cut.gradient is not None
    torch.testing.assert_close(whole.energy, cut.energy)
    torch.testing.assert_close(whole.gradient, cut.gradient)
    assert whole.rank.tolist() == cut.rank.tolist()


def test_a_vocabulary_of_256_000_is_read_in_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readout = make_readout("rms_norm", d_model=4, d_vocab=256_000)
    sizes: list[int] = []
    logits = ReadOut.logits

    def counted(self: ReadOut, h: torch.Tensor) -> torch.Tensor:
        made = logits(self, h)
        sizes.append(made.numel())
        return made

    monkeypatch.setattr(ReadOut, "logits", counted)
    found = lens_energies(readout, torch.randn(200, 4), torch.arange(200), with_gradient=True)
    assert found.energy.isfinite().all()
    assert max(sizes) <= 1 << 24
    assert sum(sizes) == 200 * 256_000
