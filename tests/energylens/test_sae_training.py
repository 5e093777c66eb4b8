"""Training of SAEs: what it finds and what it says."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import LoggingConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY, register_sae_training_class
from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

from energylens.errors import UsageError
from energylens.lens.gate import GateSums
from energylens.lens.saes import load_saes
from energylens.training.saes.architectures import architectures, build_sae, settings_of
from energylens.training.saes.blocks import Blocks
from energylens.training.saes.config import plans_of
from energylens.training.saes.finish import save_saes
from energylens.training.saes.loop import train_saes
from energylens.training.saes.precision import number_format
from energylens.training.saes.trainee import Trainee
from tests.training_saes import (
    HOOK,
    Planted,
    Quiet,
    best_cosine,
    config_of,
    trained,
    weights,
)


@pytest.mark.parametrize("architecture", architectures())
def test_every_architecture_trains_loads_and_passes_its_gate(
    architecture: str, tmp_path: Path
) -> None:
    watch = Quiet()
    (one,) = trained(Planted(), config_of(architecture), tmp_path, watch)
    (sae,) = load_saes([str(one.folder)])
    x = Planted().chunk(77)[HOOK]
    with torch.no_grad():
        codes, output = sae.encode(x[None])[0], sae.reconstruct(x[None])[0]
    l0 = float((codes != 0).sum(1).float().mean())
    fvu = float((output - x).square().sum() / (x - x.mean(0)).square().sum())
    first, last = watch.records[0].figures[0], watch.records[-1].figures[0]
    assert last.loss < first.loss and fvu < 0.7
    assert sae.declared_l0 is not None and 0.8 < l0 / sae.declared_l0 < 1.25
    if "topk" in architecture:
        assert sae.declared_l0 == pytest.approx(4, rel=0.02)
    assert abs(one.measured.fvu - fvu) < 0.05
    metadata = json.loads((one.folder / "cfg.json").read_text())["metadata"]
    assert metadata["training_tokens"] == 256 * 60 and metadata["texts"] == "planted"
    assert metadata["final"]["fvu"] == one.measured.fvu and metadata["hook_name"] == HOOK


def test_directions_that_were_planted_are_found(tmp_path: Path) -> None:
    source = Planted()
    config = config_of("topk", 300, d_sae=96, block_tokens=4096)
    (one,) = trained(source, config, tmp_path)
    random = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
    found = best_cosine(weights(one.folder)["W_dec"], source.directions)
    assert found > 0.85 > 0.6 > best_cosine(random, source.directions)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "least"), [("topk", 0.95), ("batchtopk", 0.9)])
def test_a_large_planted_dictionary_is_found(
    architecture: str, least: float, tmp_path: Path
) -> None:
    source = Planted(512, 128, 8, 2048)
    config = config_of(
        architecture, 3000, d_sae=512, k=8.0, batch_size=1024, n_tokens=1024 * 3000,
        block_tokens=1 << 15,
    )  # fmt: skip
    (one,) = trained(source, config, tmp_path)
    random = torch.randn(512, 128, generator=torch.Generator().manual_seed(1))
    found = best_cosine(weights(one.folder)["W_dec"], source.directions)
    assert found > least > 0.3 > best_cosine(random, source.directions)


def test_the_figures_are_those_of_the_gate() -> None:
    source, config = Planted(), config_of("batchtopk")
    trainee = Trainee(plans_of(config)[0], 32, config)
    x = source.chunk(0)[HOOK][:256]
    trainee.begin(source.chunk(1)[HOOK])
    scale = trainee.trainer.activation_scaler.scaling_factor
    assert scale is not None
    sums = GateSums(48)
    with torch.no_grad():
        codes = trainee.sae.encode(x * scale)
        sums.add(codes, x, trainee.sae.decode(codes) / scale)
    trainee.step(x)
    figures, gate = trainee.figures(), sums.result(None, None)
    assert figures is not None
    assert figures.fvu == pytest.approx(gate.fvu, rel=1e-5)
    assert figures.l0 == pytest.approx(gate.l0, rel=1e-6)
    assert sum(figures.parts.values()) == pytest.approx(figures.loss, rel=1e-5)
    assert figures.dead_share == 0


def test_features_that_do_not_fire_are_dead() -> None:
    source, config = Planted(), config_of("standard", 8)
    assert config.dead_steps == 4
    trainee = Trainee(plans_of(config)[0], 32, config)
    trainee.begin(source.chunk(0)[HOOK])
    with torch.no_grad():
        trainee.sae.b_enc[:12] = -1e6
    for step in range(4):
        trainee.step(source.chunk(step)[HOOK][:256])
    figures = trainee.figures()
    assert figures is not None and figures.dead_share == 12 / 48


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The loss of every step that sae-lens' trainer takes from now on."""
    step, heard = SAETrainer.step, []

    def listened(self: Any, batch: Tensor) -> Any:
        out = step(self, batch)
        heard.append(out.loss.item())
        return out

    monkeypatch.setattr(SAETrainer, "step", listened)
    return heard


def test_the_loss_is_that_of_sae_lens_training_by_itself(
    tmp_path: Path, losses: list[float]
) -> None:
    source, config = Planted(), config_of("batchtopk", 40)
    train_saes(source, config, tmp_path / "c.safetensors", Quiet())
    ours = losses.copy()
    blocks = Blocks(source, 1024, 256, 0, lambda *_: None, lambda: False)
    read = [blocks.read(number) for number in range(10)]
    sample = read[0].pools[HOOK]
    stream = [block.batch(n)[HOOK] for block in read for n in range(block.n_batches)]
    sae = build_sae(settings_of("batchtopk", {"k": 4.0}, {}), 32, 48, seed=0)
    trainer: Any = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=40 * 256, train_batch_size_samples=256, lr=3e-3, lr_end=3e-4,
            lr_warm_up_steps=4, lr_decay_steps=13, dead_feature_window=48,
            n_batches_for_norm_estimate=4, logger=LoggingConfig(log_to_wandb=False),
        ),
        sae=sae,
        data_provider=itertools.chain(stream[:4], stream),
    )  # fmt: skip
    with torch.no_grad():
        scale = 32**0.5 / float(sample.norm(dim=1).mean())
        sae.b_dec.copy_(sample.mean(0) * scale)
    trainer.fit()
    assert len(ours) == 40
    np.testing.assert_allclose(ours, losses[40:], rtol=1e-3)


def test_a_sweep_shares_the_activations(tmp_path: Path) -> None:
    config = config_of("topk", 20, sweep={"k": (2.0, 4.0), "d_sae": (32.0, 48.0)}, k=None)
    watch = Quiet()
    saved = trained(Planted(), config, tmp_path, watch)
    assert [one.swept for one in saved] == [{"k": k, "d_sae": d} for k in (2, 4) for d in (32, 48)]
    assert [(one.measured.l0, weights(one.folder)["b_enc"].shape) for one in saved] == [
        (k, (d,)) for k in (2, 4) for d in (32, 48)
    ]
    alone = trained(Planted(), replace(config, sweep={}, k=4.0, d_sae=32), tmp_path / "alone")
    for name, value in weights(alone[0].folder).items():
        assert torch.equal(value, weights(saved[2].folder)[name]), name


def test_resampling_brings_dead_features_back(tmp_path: Path) -> None:
    """With a strong start against them, features die; resampled ones live and are of use."""
    source = Planted()
    found = {}
    begin = Trainee.begin

    def kill(self: Trainee, sample: Tensor) -> None:
        begin(self, sample)
        self.sae.b_enc.data[:24] = -50.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainee, "begin", kill)
        for every in (0, 20):
            config = config_of("standard", 100, l1=0.3, resample_every=every)
            (found[every],) = trained(source, config, tmp_path / str(every))
    assert found[0].measured.n_dead >= 24 > 4 >= found[20].measured.n_dead
    assert found[20].measured.fvu < 0.8 * found[0].measured.fvu


def test_an_architecture_that_sae_lens_adds_trains_unchanged(tmp_path: Path) -> None:
    class NewConfig(StandardTrainingSAEConfig):
        @classmethod
        def architecture(cls) -> str:
            return "brand_new"

        def get_inference_config_class(self) -> Any:
            return StandardTrainingSAEConfig.get_inference_config_class(
                StandardTrainingSAEConfig(d_in=1, d_sae=1)
            )

    register_sae_training_class("brand_new", StandardTrainingSAE, NewConfig)
    try:
        (one,) = trained(Planted(), config_of("brand_new", 30), tmp_path)
    finally:
        del SAE_TRAINING_CLASS_REGISTRY["brand_new"]
    assert one.measured.fvu < 0.7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"architecture": "topkk", "k": None},
            r"no architecture 'topkk'; did you mean .*topk.*It trains abs",
        ),
        ({"architecture": "standard", "k": 4.0}, r"'standard' has no k, so no --k; it takes --l1"),
        ({"architecture": "jumprelu", "l1": 1.0, "k": None}, r"--set l0_coefficient="),
        ({"settings": {"aux_loss_coeficient": "1"}}, r"did you mean aux_loss_coefficient"),
        ({"settings": {"use_sparse_activations": "3.5"}}, r"--set use_sparse_activations=3.5 can"),
        ({"settings": {"adam_beta1": "nan"}}, r"adam_beta1=nan cannot be taken: a finite"),
        ({"settings": {"normalize_activations": "none?"}}, r"normalize_activations=none\? cannot"),
        ({"k": 4.5}, r"--k 4.5 cannot be taken: Expected `int`"),
        ({"k": 0.0}, r"--k 0 is not above 0; give 1 or"),
        ({"k": 49.0}, r"--k 49 is outside 0 to 48"),
        ({"d_sae": 0}, r"--d-sae 0 is no number of features"),
        ({"n_tokens": 255}, r"255 tokens is less than one batch of 256"),
        ({"batch_size": 0}, r"--batch is 0"),
        ({"warm_up": 61}, r"--warmup 61 is outside 0 to 60"),
        ({"warm_up": 50, "settings": {"lr_decay_steps": "20"}}, r"50 steps of warm-up and 20 of"),
        ({"learning_rate": 0.0}, r"--lr 0 is no learning rate"),
        ({"hook_names": (HOOK, HOOK)}, r"given twice"),
        ({"hook_names": ()}, r"give --hook"),
        ({"resample_every": 5}, r"--resample is for the architecture 'standard'"),
        ({"sweep": {"kk": (1.0,)}}, r"no setting 'kk'; did you mean k"),
        ({"sweep": {"k": (2.0, 2.0)}, "k": None}, r"gives a value twice"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        trained(Planted(), replace(config_of(), **changes), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_settings_that_sae_lens_would_change_are_refused(tmp_path: Path) -> None:
    config = config_of("matryoshka_batchtopk", settings={"matryoshka_widths": "[16,32]"})
    with pytest.raises(UsageError, match=r"with matryoshka_widths \[16, 32, 48\], not \[16, 32\]"):
        trained(Planted(), config, tmp_path)
    with pytest.raises(UsageError, match=r"matryoshka_widths must not be empty; settings are"):
        trained(Planted(), replace(config, settings={}), tmp_path)


def test_number_formats_follow_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for can, form in (({}, "float32"), ({"avx512_bf16": True}, "bfloat16")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda can=can: can)
        assert number_format("auto") == form
    assert number_format("float32") == "float32"
    with pytest.raises(UsageError, match="--dtype takes auto, float32, bfloat16, not 'half'"):
        number_format("half")


@pytest.mark.parametrize("architecture", ["topk", "jumprelu"])
def test_steps_in_bfloat16_train_too(architecture: str, tmp_path: Path) -> None:
    (one,) = trained(Planted(), config_of(architecture, autocast=True), tmp_path)
    assert one.measured.fvu < 0.7
    assert weights(one.folder)["W_dec"].dtype == torch.float32


def test_halves_load_like_the_whole(tmp_path: Path) -> None:
    done = train_saes(Planted(), config_of("batchtopk"), tmp_path / "c.safetensors", Quiet())
    (half,) = save_saes(done, tmp_path / "half", Planted().facts, float16=True)
    (sae,) = load_saes([str(half.folder)])
    assert weights(half.folder)["W_dec"].dtype == torch.float16
    assert sae.W_dec.dtype == torch.float32
    assert 0.8 < half.measured.l0 / 4 < 1.25
