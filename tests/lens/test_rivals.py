"""Rivals of gains: each lowers the energy where its own truth is planted, and leaves no trace."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from energylens.lens.energy import lens_energies
from energylens.lens.gains import gain_change
from energylens.lens.models import LanguageModel
from energylens.lens.repairing import Bench
from energylens.lens.rivals import (
    Taught,
    at_temperature,
    best_step,
    constant,
    fit_temperature,
    output_scores,
    target_norm,
    tune_gains,
    tune_map,
    tune_weights,
)
from energylens.lens.saes import Sae, load_saes
from tests.conftest import make_sae
from tests.lens.test_repairing import HOOK, contexts, drawn_labels

FEATURE = 6


@pytest.fixture
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def sae(tmp_path_factory: pytest.TempPathFactory) -> Sae:
    root = tmp_path_factory.mktemp("sae") / "one"
    make_sae("standard", HOOK, d_sae=48).save_model(root)
    return load_saes([str(root)])[0]


def taught(bench: Bench, gain: float = 0.0) -> Taught:
    """Texts of the model with one feature turned: to learn on, and to stop by."""
    truth = torch.zeros(48)
    truth[FEATURE] = gain
    written = drawn_labels(bench, contexts(240, 3), truth)
    first = bench.part(written[:160], range(160))
    return Taught(first, bench.part(written[160:], range(80)))


def test_a_step_is_as_long_as_serves() -> None:
    assert best_step(lambda s: abs(s - 0.11), 0.11) == 0.1
    assert best_step(lambda s: s, 0.0) == 0.0
    assert best_step(lambda s: -s, 0.0) == 0.8
    assert best_step(lambda s: float("nan"), 0.0) == 0.0


@pytest.mark.parametrize("model", ["gpt2"], indirect=True)
def test_a_temperature_and_an_affine_map_find_what_was_planted(
    model: LanguageModel, sae: Sae
) -> None:
    bench = Bench(model, sae, 512, lambda n: None)
    part = taught(bench).learn
    streams = bench.streams(part)
    hot = at_temperature(model.readout, 1.5)
    logits, plain = hot.logits(streams), model.readout.logits(streams)
    assert torch.allclose(logits, plain / 1.5, atol=1e-5)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=torch.Generator().manual_seed(0))
    batches, first = [], 0
    for batch, counted in zip(part.batches, part.counted, strict=True):
        n = int(counted.sum())
        next_ids = batch.next_ids.masked_scatter(counted, labels[first : first + n, 0])
        batches.append(dataclasses.replace(batch, next_ids=next_ids))
        first += n
    cooled = dataclasses.replace(part, batches=tuple(batches))
    found = fit_temperature(bench, streams, cooled)
    assert found == pytest.approx(1.5, abs=0.1)
    both = Taught(cooled, cooled)
    mapped = tune_map(bench, both, streams, streams)
    before, after = (bench.read(h, cooled).mean() for h in (streams, mapped(streams)))
    assert after < before - 0.01


@pytest.mark.parametrize("model", ["gpt2", "mesanet"], indirect=True)
def test_descent_turns_the_right_gain_and_weights_come_back(model: LanguageModel, sae: Sae) -> None:
    bench = Bench(model, sae, 256, lambda n: None)
    both = taught(bench, 1.0)
    gains = tune_gains(bench, both, np.array([3, FEATURE]))
    assert gains[FEATURE] > 0.2 and gains[FEATURE] > 2 * gains[3].abs()
    clean = bench.energies(both.check)
    assert bench.energies(both.check, gain_change(sae, gains)).mean() < clean.mean()
    one_word = [(ids, [7] * len(ids)) for ids, _ in contexts(80, 5)]
    part = bench.part(one_word, range(80))
    both, clean = Taught(part, part), bench.energies(part)
    before = {name: tensor.clone() for name, tensor in model.hf_model.state_dict().items()}
    tuned = tune_weights(bench, both, 500, 0)
    assert np.array_equal(bench.energies(both.check), clean), "as it was"
    with tuned.turned():
        assert bench.energies(both.check).mean() < clean.mean()
    after = model.hf_model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(tensor.grad is not None for tensor in model.hf_model.parameters())


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_an_output_score_is_that_of_a_pass_for_each_feature(
    model: LanguageModel, sae: Sae, tmp_path: Path
) -> None:
    bench = Bench(model, sae, 512, lambda n: None)
    prompt = torch.tensor([0, 17, 40])
    features, active = np.array([2, 7]), np.array([0.5, 1.0])
    found = output_scores(bench, prompt, features, active)
    assert found is not None
    for number, feature in enumerate(features):
        written = 10 * active[number] * sae.W_dec[feature]
        part = bench.part([([0, 17, 40], [1, 1, 1])], [0])
        h = bench.streams(part, constant(written))[-1:]
        p = model.readout.logits(h)[0].softmax(-1)
        top = (sae.W_dec[feature] * model.readout.norm.gain @ model.readout.W_U).topk(20).indices
        rank = min(int((p > p[t]).sum()) for t in top)
        assert found[number] == pytest.approx(float(p[top].max()) * (1 - rank / len(p)), rel=1e-4)
    make_sae("standard", "blocks.1.attn.hook_z", d_in=12, d_sae=24, hook_head_index=1).save_model(
        tmp_path / "z"
    )
    (head,) = load_saes([str(tmp_path / "z")])
    assert output_scores(Bench(model, head, 512, lambda n: None), prompt, features, active) is None


@pytest.mark.parametrize("model", ["gpt2"], indirect=True)
def test_the_norm_of_a_target_is_that_of_its_vectors(model: LanguageModel, sae: Sae) -> None:
    bench = Bench(model, sae, 512, lambda n: None)
    part = bench.part(contexts(4), range(4))
    last = dataclasses.replace(sae, target_hook=bench.last)
    norms = bench.streams(part).norm(dim=1)
    assert target_norm(Bench(model, last, 512, lambda n: None), part) == pytest.approx(
        float(norms.median())
    )
    assert lens_energies(model.readout, bench.streams(part), part.labels).energy.shape == (
        part.n_tokens,
    )
