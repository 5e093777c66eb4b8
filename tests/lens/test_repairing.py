"""Gains against derivatives, edits and labels whose truth is known."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from energylens.errors import UsageError
from energylens.lens.batching import Batch
from energylens.lens.gains import (
    Gains,
    about,
    check_gains,
    gain_change,
    gains_bytes,
    other_directions,
    read_gains,
)
from energylens.lens.interventions import Edit, Seen, feature_change
from energylens.lens.models import LanguageModel
from energylens.lens.repairing import Bench, Context, Part
from energylens.lens.saes import Sae, load_saes
from energylens.stats.repairs import Known, halvings, judged, learn, signed_gains, strongest
from tests.conftest import N_CTX, VOCAB, make_sae

HOOK = "blocks.1.hook_resid_post"
FEATURE, DAMAGE = 6, 0.7
"""A feature that writes this much of what it should."""


@pytest.fixture
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module", params=["plain", "mlp", "scaled"])
def sae(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sae:
    root = tmp_path_factory.mktemp("sae") / "one"
    hook = "blocks.1.hook_mlp_out" if request.param == "mlp" else HOOK
    made = make_sae("standard", hook, d_sae=48)
    if request.param == "scaled":
        made.cfg.normalize_activations = "layer_norm"
    made.save_model(root)
    return load_saes([str(root)])[0]


def contexts(n: int, seed: int = 0) -> list[Context]:
    """Random ids after BOS, every other context short; what follows each is drawn too."""
    generator = np.random.default_rng(seed)
    lengths = [N_CTX if i % 2 else N_CTX // 2 for i in range(n)]
    return [
        (
            [0, *generator.integers(1, VOCAB, k - 1).tolist()],
            generator.integers(1, VOCAB, k).tolist(),
        )
        for k in lengths
    ]


def bench_of(model: LanguageModel, sae: Sae) -> Bench:
    return Bench(model, sae, 512, lambda n: None)


def known_of(bench: Bench, part: Part, n_texts: int) -> Known:
    return learn(bench.text_sums(part, n_texts), bench.sae.write_directions.double().numpy())


@pytest.mark.parametrize("model", ["gpt2", "llama", "mesanet"], indirect=True)
def test_the_slope_of_the_energy_by_a_gain_is_minus_the_attribution(
    model: LanguageModel, sae: Sae
) -> None:
    bench = bench_of(model, sae)
    part = bench.part(contexts(6), [0, 1, 2, 0, 1, 2])
    known = known_of(bench, part, 3)
    clean = bench.energies(part)
    assert len(clean) == part.n_tokens == 3 * (N_CTX - 1) + 3 * (N_CTX // 2 - 1)
    zero = torch.zeros(sae.d_sae)
    assert np.array_equal(bench.energies(part, gain_change(sae, zero)), clean)
    by_hand = autograd(model, sae, part)
    assert np.abs(by_hand).max() > 1e-3
    assert np.allclose(by_hand, -known.attribution, atol=1e-5)
    if model.model_class == "MesaNetForCausalLM":
        return  # its routers choose anew within any step that is large enough to be seen
    for feature in np.abs(by_hand).argsort()[-3:]:
        up, down = (
            gain_change(sae, zero.index_fill(0, torch.tensor([feature]), h)) for h in (0.02, -0.02)
        )
        slope = (bench.energies(part, up).mean() - bench.energies(part, down).mean()) / 0.04
        assert slope == pytest.approx(-known.attribution[feature], rel=0.05, abs=2e-4)


def autograd(model: LanguageModel, sae: Sae, part: Part) -> np.ndarray:
    """d mean energy / d gain by torch's own way, with the change written out once more."""
    gains = torch.zeros(sae.d_sae, requires_grad=True)
    losses = []
    for batch in part.batches:
        held: dict[str, Any] = {}

        def edit(value: Any, hook: Any, batch: Batch = batch, held: Any = held) -> Any:
            x = held.get("x", value)
            codes = sae.module.encode(x).detach() * (batch.mask & (batch.ids != 0))[..., None]
            if sae.module.cfg.normalize_activations == "layer_norm":
                codes = codes * x.std(-1, keepdim=True).detach()
            return value + (codes * gains) @ sae.W_dec

        logits = model.bridge.run_with_hooks(
            batch.ids, attention_mask=batch.mask.long(), fwd_hooks=[(sae.target_hook, edit)]
        )
        kept = batch.mask & (batch.ids != 0) & (batch.next_ids >= 0)
        losses.append(
            functional.cross_entropy(logits[kept], batch.next_ids[kept], reduction="none")
        )
    mean = torch.cat(losses).mean()
    return torch.autograd.grad(mean, gains)[0].double().numpy()


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_minus_one_ablates_and_random_directions_have_the_same_power(
    model: LanguageModel, sae: Sae
) -> None:
    bench = bench_of(model, sae)
    part = bench.part(contexts(4), [0, 1, 2, 3])
    gains = torch.zeros(sae.d_sae)
    gains[[3, 30]] = -1.0
    ablated = bench.energies(part, feature_change(sae, Edit((3, 30), "ablate")))
    assert np.abs(bench.energies(part, gain_change(sae, gains)) - ablated).max() < 1e-5
    seen = Seen(torch.rand(7, 48), torch.rand(7, 24), torch.full((7, 1), 2.0))
    made, own = other_directions(sae, gains, 0)(seen), gain_change(sae, gains)(seen)
    assert torch.allclose(made.norm(dim=1), own.norm(dim=1), rtol=1e-4)
    assert (torch.cosine_similarity(made, own).abs() < 0.9).all()


def drawn_labels(bench: Bench, given: list[Context], gains: torch.Tensor) -> list[Context]:
    """The same contexts with next tokens that the model itself gives, with gains."""
    generator = torch.Generator().manual_seed(1)
    part = bench.part([(ids, ids) for ids, _ in given], range(len(given)))
    every = dataclasses.replace(part, counted=tuple(batch.mask for batch in part.batches))
    streams = bench.streams(every, gain_change(bench.sae, gains))
    p = bench.model.readout.logits(streams).softmax(-1)
    drawn = iter(torch.multinomial(p, 1, generator=generator)[:, 0].tolist())
    rows = [
        ids[mask].tolist()
        for batch in part.batches
        for ids, mask in zip(batch.ids, batch.mask, strict=True)
    ]
    return [(ids, [next(drawn) for _ in ids]) for ids in rows]


@pytest.mark.parametrize("model", ["llama"], indirect=True)
@pytest.mark.parametrize("is_damaged", [True, False])
def test_a_damaged_feature_is_found_and_turned_up_and_nothing_is_where_none_is(
    model: LanguageModel, tmp_path: Path, is_damaged: bool
) -> None:
    """The texts are written by a model in which the feature writes as it should; the one at hand
    writes only a part of it. Without damage the model is calibrated: no gain can help."""
    make_sae("standard", HOOK, d_sae=48).save_model(tmp_path / "one")
    (sae,) = load_saes([str(tmp_path / "one")])
    bench = bench_of(model, sae)
    truth = torch.zeros(sae.d_sae)
    truth[FEATURE] = 1 / DAMAGE - 1 if is_damaged else 0.0
    n = 800
    written = drawn_labels(bench, contexts(n, 2), truth)
    (learned, _) = halvings(n, 2, 0)
    halves = [
        bench.part([written[i] for i in np.flatnonzero(half)], np.flatnonzero(half).tolist())
        for half in (learned, ~learned)
    ]
    known = known_of(bench, halves[0], n)
    chosen = strongest(np.abs(known.t), 1, known)
    step = 1 / DAMAGE - 1
    gains = torch.from_numpy(signed_gains(chosen, known, step)).float()
    change = bench.energies(halves[1], gain_change(sae, gains)) - bench.energies(halves[1])
    found = judged(change, halves[1].text)
    if is_damaged:
        assert chosen.tolist() == [FEATURE] and known.t[FEATURE] > 4
        assert float(gains[FEATURE]) == pytest.approx(step)
        assert found.high < 0
    else:
        assert np.nanmax(np.abs(known.t)) < 3.6, "of 48 tested"
        assert found.high > 0


def gains_of(model: LanguageModel, sae: Sae) -> Gains:
    return Gains((3, 30), (0.3, -0.3), about(model, sae, by="attribution"))


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_gains_are_kept_in_a_file_and_fit_nothing_else(
    model: LanguageModel, gpt2: LanguageModel, sae: Sae, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(gains_bytes(gains_of(model, sae)))
    found = read_gains(path)
    check_gains(found, model, sae)
    assert found.features == (3, 30) and found.gains == pytest.approx((0.3, -0.3))
    assert found.dense(48).nonzero()[:, 0].tolist() == [3, 30]
    assert found.about["by"] == "attribution"
    with pytest.raises(UsageError, match="another model"):
        check_gains(found, gpt2, sae)
    for name in ("sae_sha256", "hook_name", "target_hook", "head"):
        other = dataclasses.replace(found, about={**found.about, name: "x"})
        with pytest.raises(UsageError, match="another SAE"):
            check_gains(other, model, sae)
    with pytest.raises(UsageError, match="feature 48, but"):
        check_gains(dataclasses.replace(found, features=(3, 48)), model, sae)


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_a_damaged_file_of_gains_is_refused(model: LanguageModel, sae: Sae, tmp_path: Path) -> None:
    path, good = tmp_path / "x.safetensors", gains_of(model, sae)
    whole = gains_bytes(good)
    for size in (0, 4, 8, 60, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(UsageError, match=r"cannot be read.*energylens repair"):
            read_gains(path)
    for place in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="there is no file"):
            read_gains(place)
    for bad in (
        dataclasses.replace(good, features=(3, 3)),
        dataclasses.replace(good, features=(3,)),
        dataclasses.replace(good, gains=(0.3, float("nan"))),
    ):
        path.write_bytes(gains_bytes(bad))
        with pytest.raises(UsageError, match="damaged"):
            read_gains(path)
    path.write_bytes(gains_bytes(dataclasses.replace(good, about={"kind": "other"})))
    with pytest.raises(UsageError, match="holds no gains"):
        read_gains(path)
