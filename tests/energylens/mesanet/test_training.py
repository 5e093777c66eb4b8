"""A MesaNet's training: it learns, balances, resumes, and says how its routers are."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from energylens.mesanet.anchors import Routing
from energylens.mesanet.health import HealthMeter
from energylens.mesanet.model import MesaNetForCausalLM
from energylens.training.leaks import check_leaks
from energylens.training.loop import Progress, Watch
from energylens.training.mesanet import MesaNetProgress, MesaNetTrainingConfig, build, train

CONFIG = MesaNetTrainingConfig(
    n_ctx=16, n_tokens=16 * 8 * 40, learning_rate=1e-2,
    model={
        "vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
        "n_anchors": 4, "anchor_width": 8, "anchor_key_size": 8, "shared_width": 16,
        "chunk_size": 8,
    },
)  # fmt: skip
IDS = (np.arange(4000) * 7 % 37).astype(np.int32)


class Seen:
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.reports: list[MesaNetProgress] = []

    def __call__(self, progress: Progress) -> None:
        assert isinstance(progress, MesaNetProgress)
        self.reports.append(progress)

    @property
    def losses(self) -> list[float]:
        return [report.loss for report in self.reports]


def test_a_mesanet_trains_resumes_to_the_same_weights_and_balances(tmp_path: Path) -> None:
    seen = Seen()
    whole = train(CONFIG, IDS, tmp_path / "a", Watch(seen, report_every=10))
    assert seen.losses[-1] < seen.losses[0] - 0.5

    class StoppedError(Exception):
        pass

    def stop(progress: object) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        train(CONFIG, IDS, tmp_path / "b", Watch(stop, report_every=20, save_every=10))
    again = train(CONFIG, IDS, tmp_path / "b", Watch(seen))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert any(block.anchors.balance.abs().sum() > 0 for block in whole.blocks)  # pyright: ignore


def test_a_training_that_begins_with_a_trained_model_begins_where_that_one_ended(
    tmp_path: Path,
) -> None:
    one, two = Seen(), Seen()
    first = train(CONFIG, IDS, tmp_path / "a", Watch(one, report_every=5))
    again = replace(CONFIG, model={"from": "a"}, learning_rate=1e-4)
    train(again, IDS, tmp_path / "b", Watch(two, report_every=5), begin_with=first)
    assert two.losses[0] < one.losses[-1] + 0.1 < one.losses[0]


def test_reports_tell_how_the_routers_are_and_held_out_texts_are_measured_on_the_way(
    tmp_path: Path,
) -> None:
    seen, measured = Seen(), []

    def evaluate(model: MesaNetForCausalLM, n_tokens: int) -> None:
        measured.append((n_tokens, model.training))

    train(CONFIG, IDS, tmp_path / "a", Watch(seen, 20, evaluate=evaluate, evaluate_every=25))
    assert measured == [(25 * 128, False), (40 * 128, False)]
    assert [[r.layer for r in report.routers] for report in seen.reports] == [[0, 1], [0, 1]]
    dense = replace(CONFIG, model=CONFIG.model | {"router": "dense"})
    train(dense, IDS, tmp_path / "b", Watch(seen, 40))
    assert seen.reports[-1].routers == ()


def test_health_is_what_its_definitions_say() -> None:
    p = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1]])
    choices = torch.tensor([[[0, 1], [1, 0]]])
    nothing = torch.zeros(1, 2)
    routing = Routing(
        logits=p.log()[None],
        choices=choices,
        weights=torch.full((1, 2, 2), 0.5),
        seen_energy=None,
        decided_by=None,
        predicted_energy=nothing,
        write=torch.zeros(1, 2, 3),
    )
    meter = HealthMeter()
    assert meter.read() == ()
    meter.add([routing])
    meter.add([routing])
    (found,) = meter.read()
    within = -(0.7 * math.log(0.7) + 0.3 * math.log(0.1))
    mean = [0.4, 0.4, 0.1, 0.1]
    marginal = -sum(x * math.log(x) for x in mean)
    assert (found.layer, found.n_dead) == (0, 2)
    assert found.max_vio == pytest.approx(1.0)  # half the load each, a quarter is fair
    assert found.concentration == pytest.approx(1 - within / math.log(4), rel=1e-5)
    assert found.information == pytest.approx((marginal - within) / math.log(4), rel=1e-5)
    assert meter.read() == ()


def test_a_budget_by_energy_gives_hard_tokens_more_anchors_and_two_on_average() -> None:
    settings = CONFIG.model | {"budget": "by_energy"}
    model = build(replace(CONFIG, model=settings))
    ids = torch.from_numpy(IDS[:512]).view(32, 16).long()
    anchors = model.blocks[0].anchors
    for _ in range(200):
        anchors.rebalance(model(ids).routing[0], 0.0)  # pyright: ignore
    routing = model(ids).routing[0]
    count = (routing.weights > 0).sum(-1)
    assert count.float().mean() == pytest.approx(2.0, abs=0.1)
    assert set(count.flatten().tolist()) == {1, 2, 3}
    by_count = [routing.seen_energy[count == n] for n in (1, 2, 3)]
    assert by_count[0].max() <= by_count[1].min() and by_count[1].max() <= by_count[2].min()
    torch.testing.assert_close(routing.weights.sum(-1), torch.ones(32, 16))


def test_energy_is_shown_from_the_first_layer_asked_for() -> None:
    model = build(replace(CONFIG, model=CONFIG.model | {"energy_first_layer": 1}))
    routing = model(torch.from_numpy(IDS[:16])[None].long()).routing
    assert routing[0].seen_energy is None and routing[1].seen_energy is not None


def test_a_head_that_sees_the_next_token_is_found_and_an_honest_one_is_not(
    tmp_path: Path,
) -> None:
    generator = np.random.default_rng(0)
    steps = np.where(np.arange(8000) // 50 % 2, 7, generator.choice([1, 7, 11], 8000))
    row = (np.cumsum(steps) % 39).astype(
        np.int32
    )  # stretches that are easy, stretches that are not
    model = train(replace(CONFIG, n_tokens=16 * 8 * 150), row, tmp_path / "c", Watch(Seen()))
    ids = torch.from_numpy(row[:3200]).view(200, 16).long()
    mask = torch.ones_like(ids, dtype=torch.bool)
    honest = check_leaks(model, [(ids[:30], mask[:30]), (ids[30:], mask[30:])])
    assert honest.leaks == [] and len(honest.predicted) == 2
    with torch.no_grad():
        logits = model(ids).logits
    energy = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    ).view(200, 15)
    entropy = torch.distributions.Categorical(logits=logits[:, :-1]).entropy()
    ceiling = np.corrcoef(entropy.flatten(), energy.flatten())[0, 1]
    assert honest.ceiling == pytest.approx(ceiling, abs=1e-5)

    def leak(module: object, inputs: object, output: tuple) -> tuple:
        seen = torch.nn.functional.pad(energy, (0, 1)) + 0.1 * torch.randn(200, 16)
        return output[0], replace(output[1], predicted_energy=seen)

    handle = model.blocks[1].anchors.register_forward_hook(leak)  # pyright: ignore
    found = check_leaks(model, [(ids, mask)])
    handle.remove()
    assert found.leaks == [1] and found.predicted[1].value > 0.9
