"""Training of SAEs: what it finds, what it says, and that nothing it has done is lost."""

import itertools
import json
import math
import os
import signal
from collections.abc import Callable, Sequence
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
from safetensors.torch import load_file
from torch import Tensor

from energylens.errors import ModelError, TrainingError, UsageError
from energylens.lens.gate import GateSums
from energylens.lens.models import LanguageModel, read_hooks, run_hooks
from energylens.lens.saes import load_saes
from energylens.training import checkpoint as checkpoints
from energylens.training.saes import loop
from energylens.training.saes.architectures import architectures, build_sae, settings_of
from energylens.training.saes.blocks import Blocks
from energylens.training.saes.config import SaeTrainingConfig, plans_of
from energylens.training.saes.finish import Saved, save_saes
from energylens.training.saes.loop import Report, train_saes
from energylens.training.saes.precision import number_format
from energylens.training.saes.source import KeptSource, ModelSource
from energylens.training.saes.trainee import Trainee
from tests.conftest import VOCAB

HOOK = "blocks.0.hook_resid_post"
SETTINGS = {
    "matryoshka_batchtopk": {"matryoshka_widths": "[16,48]"},
    "matching_pursuit": {"max_iterations": "6"},
}
"""What an architecture cannot do without, or would take too long with."""


class Planted:
    """Sparse sums of unit directions, with noise: what an SAE should find."""

    def __init__(
        self, n: int = 64, width: int = 32, l0: float = 4, rows: int = 512, spoilt: int = -1
    ) -> None:
        """`spoilt` is a chunk of huge numbers."""
        generator = torch.Generator().manual_seed(5)
        self.directions = torch.randn(n, width, generator=generator)
        self.directions /= self.directions.norm(dim=1, keepdim=True)
        self.l0, self.chunk_tokens, self._spoilt = l0, rows, spoilt
        self.facts: dict[str, Any] = {
            "model_name": "none", "context_size": 8, "prepend_bos": True, "texts": "planted",
        }  # fmt: skip

    def chunk(self, number: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1000 + number)
        n = len(self.directions)
        on = torch.rand(self.chunk_tokens, n, generator=generator) < self.l0 / n
        codes = on * (0.5 + torch.rand(self.chunk_tokens, n, generator=generator))
        noise = 0.05 * torch.randn(self.chunk_tokens, self.directions.shape[1], generator=generator)
        scale = 1e30 if number == self._spoilt else 1.0
        return {HOOK: (codes @ self.directions + noise) * scale}

    def where(self, first: int, end: int) -> str:
        return f"chunks {first} to {end - 1}"


class Quiet:
    """A Watch that keeps what it hears and calls back after each step."""

    def __init__(self, after: Callable[[int], None] = lambda step: None) -> None:
        self.records: list[Report] = []
        self.phases: list[str] = []
        self.steps: list[int] = []
        self._after = after

    def begin(self) -> None:
        pass

    def phase(self, name: str, done: int, total: int, unit: str) -> None:
        assert 0 <= done <= total
        self.phases.append(name)

    def step(self, report: Callable[[], Report]) -> None:
        self.steps.append(report().step)
        self._after(self.steps[-1])

    def record(self, report: Report) -> None:
        self.records.append(report)


def config_of(architecture: str = "topk", n_steps: int = 60, **changes: Any) -> SaeTrainingConfig:
    plain = SaeTrainingConfig(
        hook_names=(HOOK,),
        architecture=architecture,
        d_sae=48,
        n_tokens=256 * n_steps,
        batch_size=256,
        learning_rate=3e-3,
        block_tokens=1024,
        settings=SETTINGS.get(architecture, {}),
        k=4.0 if "topk" in architecture else None,
    )
    return replace(plain, **changes)


def trained(source: Any, config: SaeTrainingConfig, folder: Path, watch: Any = None) -> list[Saved]:
    done = train_saes(source, config, folder / "c.safetensors", watch or Quiet())
    return save_saes(done, folder, source.facts)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "sae_weights.safetensors")


def best_cosine(found: Tensor, directions: Tensor) -> float:
    """Mean over planted directions of the largest cosine with a found one."""
    unit = found / found.norm(dim=1, keepdim=True).clamp_min(1e-9)
    return float((directions @ unit.T).max(1).values.mean())


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


def test_the_loss_is_that_of_sae_lens_training_by_itself(tmp_path: Path) -> None:
    source, config = Planted(), config_of("batchtopk", 40)
    ours: list[float] = []
    step = Trainee.step

    def heard(self: Trainee, batch: Tensor) -> float:
        ours.append(step(self, batch))
        return ours[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainee, "step", heard)
        train_saes(source, config, tmp_path / "c.safetensors", Quiet())
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
    theirs: list[float] = []
    one_step = trainer.step
    trainer.step = lambda batch: (out := one_step(batch), theirs.append(out.loss.item()))[0]
    with torch.no_grad():
        scale = 32**0.5 / float(sample.norm(dim=1).mean())
        sae.b_dec.copy_(sample.mean(0) * scale)
    trainer.fit()
    assert len(ours) == 40
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


@pytest.mark.parametrize("architecture", ["batchtopk", "standard"])
def test_a_training_killed_anywhere_ends_at_the_same_weights(
    architecture: str, tmp_path: Path
) -> None:
    config = config_of(architecture, 20, sweep={"lr": (1e-3, 3e-3)})
    if architecture == "standard":
        config = replace(config, resample_every=6, l1=20.0)
    whole = trained(Planted(), config, tmp_path / "whole")
    steps = sorted({*np.random.default_rng(3).integers(1, 20, 4).tolist(), 19})
    for kill in steps:
        child = os.fork()
        if not child:

            def die(step: int, last: int = kill) -> None:
                if step == last:
                    os.kill(os.getpid(), signal.SIGKILL)

            loop._SAVE_EVERY = 3
            train_saes(Planted(), config, tmp_path / "cut" / "c.safetensors", Quiet(die))
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    watch = Quiet()
    cut = trained(Planted(), config, tmp_path / "cut", watch)
    assert len(watch.steps) < 5
    for one, other in zip(whole, cut, strict=True):
        mine, theirs = weights(one.folder), weights(other.folder)
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_step(tmp_path: Path, kind: signal.Signals) -> None:
    config = config_of("topk", 30)
    (whole,) = trained(Planted(), config, tmp_path / "whole")

    def stop(step: int) -> None:
        if step == 7:
            os.kill(os.getpid(), kind)

    with pytest.raises(KeyboardInterrupt):
        trained(Planted(), config, tmp_path / "cut", Quiet(stop))
    watch = Quiet()
    (cut,) = trained(Planted(), config, tmp_path / "cut", watch)
    assert watch.steps[0] == 8
    for name, value in weights(whole.folder).items():
        assert torch.equal(value, weights(cut.folder)[name]), name


def test_a_signal_while_activations_are_read_keeps_the_steps(tmp_path: Path) -> None:
    class Asked(Quiet):
        def phase(self, name: str, done: int, total: int, unit: str) -> None:
            if name == "activations" and self.steps:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trained(Planted(), config_of("topk", 30), tmp_path, Asked())
    watch = Quiet()
    trained(Planted(), config_of("topk", 30), tmp_path, watch)
    assert watch.steps[0] == 5


def test_a_loss_that_is_no_number_stops_and_names_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SAVE_EVERY", 3)
    said = (
        rf"'{HOOK}' at {HOOK} came to an end in step 8, batch 0 of block 2 \(chunks 4 to 5\): "
        r"the loss is inf; .* of step 6 is the last good one; lower the learning rate"
    )
    with pytest.raises(TrainingError, match=said):
        trained(Planted(spoilt=4), config_of("topk", settings={"lr_decay_steps": "0"}), tmp_path)
    assert all(v.isfinite().all() for v in load_file(tmp_path / "c.safetensors").values())


def test_weights_that_are_no_number_are_never_saved(tmp_path: Path) -> None:
    step = Trainee.step

    def spoil(self: Trainee, batch: Tensor) -> float:
        loss = step(self, batch)
        if self.trainer.n_training_steps == 10:
            self.sae.b_dec.data[3] = math.nan
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainee, "step", spoil)
        patch.setattr(loop, "_SAVE_EVERY", 5)
        with pytest.raises(
            TrainingError, match=r"a gradient was no number.* of step 5 is the last"
        ):
            trained(Planted(), config_of(), tmp_path)


def test_checkpoints_of_other_trainings_are_refused(tmp_path: Path) -> None:
    config = config_of("topk", 4)
    trained(Planted(), config, tmp_path)
    with pytest.raises(
        TrainingError, match=r"other settings: k 4.0, not 5.0; seed 0, not 2; repeat"
    ):
        trained(Planted(), replace(config, k=5.0, seed=2), tmp_path)
    other = Planted()
    other.facts["texts"] = "others"
    with pytest.raises(TrainingError, match=r"other settings: texts planted, not others; repeat"):
        trained(other, config, tmp_path)


def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = checkpoints.save_file

    def full(tensors: Any, target: Path, metadata: dict[str, str]) -> None:
        if metadata["step"] == "6":
            target.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(tensors, target, metadata=metadata)

    monkeypatch.setattr(checkpoints, "save_file", full)
    monkeypatch.setattr(loop, "_SAVE_EVERY", 3)
    with pytest.raises(TrainingError, match=r"step 6 .*No space left.*of step 3 .* make room"):
        trained(Planted(), config_of(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


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


def test_activations_of_a_model_are_those_of_its_text_tokens(
    gpt2: LanguageModel, mesanet: LanguageModel
) -> None:
    ids = np.random.default_rng(0).integers(0, VOCAB, 4000).astype(np.int32)
    for model in (gpt2, mesanet):
        last = f"blocks.{model.n_layers - 1}.hook_resid_post"
        hooks = ("blocks.0.hook_resid_post", "blocks.1.hook_mlp_out", last)
        source = ModelSource(model, ids, hooks, 16, 0, "t")
        chunk = source.chunk(3)
        batch = source._windows.batch(3)
        _, cache = run_hooks(model, batch, torch.ones_like(batch), hooks)
        for hook in hooks:
            kept = [
                cache[hook][row, pos]
                for row in range(8)
                for pos in range(1, 16)
                if batch[row, pos] != model.bos_id
            ]
            torch.testing.assert_close(chunk[hook], torch.stack(kept))
        assert torch.equal(source.chunk(3)[last], chunk[last])


def test_a_pass_ends_at_the_last_hook(gpt2: LanguageModel, mesanet: LanguageModel) -> None:
    """Neither a later block nor the head runs; afterwards the model is as it was."""
    ids = torch.arange(1, 17)[None]
    for model in (gpt2, mesanet):
        before, _ = run_hooks(model, ids, torch.ones_like(ids), [])
        bare = model.hf_model
        blocks = bare.transformer.h if hasattr(bare, "transformer") else bare.blocks
        parts = (bare.get_output_embeddings(), blocks[1], blocks[2])
        ran = _runs(model, ids, parts, ["blocks.1.hook_resid_pre", "blocks.0.hook_mlp_out"])
        assert (ran[0], ran[2]) == (0, 0)
        assert _runs(model, ids, parts, ["blocks.2.hook_resid_post"]) == [0, 1, 1]
        after, _ = run_hooks(model, ids, torch.ones_like(ids), [])
        assert before is not None and after is not None and torch.equal(before, after)


def _runs(model: LanguageModel, ids: Tensor, parts: Sequence[Any], hooks: list[str]) -> list[int]:
    """How often each part of a model runs while hooks are read."""
    counts = [0] * len(parts)

    def count(place: int) -> Callable[..., None]:
        def run(*_: Any) -> None:
            counts[place] += 1

        return run

    handles = [part.register_forward_pre_hook(count(n)) for n, part in enumerate(parts)]
    read_hooks(model, ids, hooks)
    for handle in handles:
        handle.remove()
    return counts


def test_kept_activations_are_read_whole_once_a_pass_and_in_an_order_of_the_seed() -> None:
    def read(number: int, hook: str) -> np.ndarray:
        return np.full((3, 2), float(number), dtype=np.float32)

    orders = []
    for seed in (0, 1):
        source = KeptSource(read, 9, 3, (HOOK,), seed, {})
        order = [int(source.chunk(n)[HOOK][0, 0]) for n in range(18)]
        assert sorted(order[:9]) == sorted(order[9:]) == list(range(9))
        assert order[:9] != order[9:]
        orders.append(order)
    assert orders[0] != orders[1]


def test_a_block_is_a_function_of_its_number() -> None:
    def read(number: int) -> Tensor:
        blocks = Blocks(Planted(), 1500, 256, 3, lambda *_: None, lambda: False)
        block = blocks.read(number)
        return torch.cat([block.batch(n)[HOOK] for n in range(block.n_batches)])

    one, again, other = read(2), read(2), read(3)
    assert len(one) == 1536 and torch.equal(one, again) and not torch.equal(one, other)
    rows = torch.cat([Planted().chunk(n)[HOOK] for n in range(6, 9)])
    assert not torch.equal(one, rows)
    assert torch.equal(one[:, 0].sort().values, rows[:, 0].sort().values)


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
        ({"k": 0.0}, r"--k 0 is outside 0 to 48"),
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
        ({"sweep": {"k": (2.0, 2.0)}}, r"gives a value twice"),
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


def test_bad_sources_are_sentences(gpt2: LanguageModel) -> None:
    ids = np.ones(4000, dtype=np.int32)
    with pytest.raises(ModelError, match=r"no hook 'blocks.9.hook_resid_post'.* did you mean"):
        ModelSource(gpt2, ids, ("blocks.9.hook_resid_post",), 16, 0, "t")
    with pytest.raises(UsageError, match=r"--n-ctx 17 is outside 2 to 16"):
        ModelSource(gpt2, ids, (HOOK,), 17, 0, "t")
    with pytest.raises(TrainingError, match=r"100 tokens of text are too few .* 8 windows of 16"):
        ModelSource(gpt2, ids[:100], (HOOK,), 16, 0, "t")
    only_bos = ModelSource(gpt2, ids * 0, (HOOK,), 16, 0, "t")
    with pytest.raises(TrainingError, match=r"holds 0, and a batch takes 64; give more text"):
        Blocks(only_bos, 64, 64, 0, lambda *_: None, lambda: False).read(0)
    bad = Planted()
    bad.directions[0, 0] = math.nan
    with pytest.raises(
        TrainingError, match=rf"at {HOOK} hold NaN or infinity in the chunks 0 to 0"
    ):
        Blocks(bad, 64, 64, 0, lambda *_: None, lambda: False).read(0)


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
