"""Training resumes to the same weights, and what it makes loads and fits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from energylens.energy import lens_energies
from energylens.errors import TrainingError
from energylens.models import LanguageModel, run_hooks
from energylens.saes import load_saes
from energylens.training import language_model
from energylens.training.corpus import Windows, pack
from energylens.training.language_model import LanguageModelConfig, next_token_loss, train
from energylens.training.mesanet import MesaNetTrainingConfig
from energylens.training.mesanet import train as train_mesanet
from energylens.training.sae import SaeTrainingConfig, save_sae, train_saes
from tests.conftest import VOCAB

CONFIG = LanguageModelConfig(
    vocab_size=VOCAB,
    d_model=32,
    n_layers=1,
    n_heads=2,
    n_ctx=16,
    n_tokens=16 * 4 * 20,
    batch_size=4,
    learning_rate=1e-2,
)


def ids_of(n: int = 2000) -> np.ndarray:
    """A row with a pattern to learn: each number follows from the one before."""
    steps = np.random.default_rng(0).choice([1, 7], size=n)
    return (np.cumsum(steps) % 50 + 1).astype(np.int32)


def quiet(_: Any) -> None:
    pass


def test_training_learns(tmp_path: Path) -> None:
    config = replace(CONFIG, n_tokens=16 * 4 * 100)
    model = train(config, ids_of(), tmp_path / "c.safetensors", quiet)
    untrained = language_model.build(config)
    batch = Windows(ids_of(), 16, 4, seed=9).batch(0)
    with torch.no_grad():
        assert next_token_loss(model, batch) < next_token_loss(untrained, batch) - 1.0


def test_an_interrupted_training_ends_at_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(CONFIG, ids_of(), tmp_path / "whole.safetensors", quiet)
    batch, calls = Windows.batch, []

    def cut(self: Windows, step: int) -> torch.Tensor:
        calls.append(step)
        if len(calls) == 13:
            raise KeyboardInterrupt
        return batch(self, step)

    monkeypatch.setattr(Windows, "batch", cut)
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, ids_of(), tmp_path / "cut.safetensors", quiet, save_every=5)
    resumed = train(CONFIG, ids_of(), tmp_path / "cut.safetensors", quiet, save_every=5)
    assert calls[:13] == [*range(13)] and calls[13] == 10
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    train(replace(CONFIG, n_tokens=64), ids_of(), tmp_path / "c.safetensors", quiet)
    with pytest.raises(TrainingError, match="other settings"):
        train(CONFIG, ids_of(), tmp_path / "c.safetensors", quiet)


def test_a_loss_that_is_no_number_stops_and_names_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language_model, "next_token_loss", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(TrainingError, match="step 0 is nan"):
        train(CONFIG, ids_of(), tmp_path / "c.safetensors", quiet)


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="too few"):
        train(CONFIG, ids_of(30), tmp_path / "c.safetensors", quiet)


def test_packed_texts_begin_with_bos(tokenizer: Any) -> None:
    ids = pack(tokenizer, ["The cat", "", "Fish."])
    starts = np.flatnonzero(ids == tokenizer.bos_token_id)
    assert len(starts) == 3 and starts[0] == 0
    assert tokenizer.decode(ids[starts[2] + 1 :]) == "Fish."


def test_every_window_of_a_pass_is_read_once() -> None:
    windows = Windows(np.arange(100, dtype=np.int32), n_ctx=7, batch_size=2, seed=3)
    seen = torch.cat([windows.batch(s) for s in range(windows.steps_per_pass)]).flatten()
    assert len(seen.unique()) == len(seen)


def test_trained_saes_reconstruct_and_load(gpt2: LanguageModel, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(1, VOCAB, 4000).astype(np.int32)
    hook = "blocks.1.hook_resid_post"
    config = SaeTrainingConfig(
        hook_names=(hook,), d_sae=64, k=8.0, n_tokens=60_000, n_ctx=16, batch_size=256,
        learning_rate=3e-3,
    )  # fmt: skip
    save_sae(train_saes(gpt2, ids, config, quiet)[hook], tmp_path / hook)
    (sae,) = load_saes([str(tmp_path / hook)])
    assert (sae.hook_name, sae.declared_l0, sae.prepend_bos) == (hook, 8, True)
    batch = Windows(ids, 16, 64, seed=1).batch(0)
    _, cache = run_hooks(gpt2, batch, torch.ones_like(batch), [hook])
    x = cache[hook][:, 1:].flatten(0, 1)
    with torch.no_grad():
        error = (sae.reconstruct(x[None])[0] - x).square().sum()
        l0 = (sae.encode(x[None])[0] != 0).sum(-1).float().mean()
    fvu = error / (x - x.mean(0)).square().sum()
    assert fvu < 0.5
    assert 4 <= l0 <= 16
    assert lens_energies(gpt2.readout, x[:4], torch.arange(4)).energy.isfinite().all()


def test_a_mesanet_trains_resumes_to_the_same_weights_and_balances(tmp_path: Path) -> None:
    config = MesaNetTrainingConfig(
        n_ctx=16, n_tokens=16 * 8 * 40, learning_rate=1e-2,
        model={
            "vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
            "n_anchors": 4, "anchor_width": 8, "anchor_key_size": 8, "shared_width": 16,
            "chunk_size": 8,
        },
    )  # fmt: skip
    ids = (np.arange(4000) * 7 % 37).astype(np.int32)
    losses: list[float] = []
    whole = train_mesanet(
        config, ids, tmp_path / "a", lambda p: losses.append(p.loss), report_every=10
    )
    assert losses[-1] < losses[0] - 0.5

    class StoppedError(Exception):
        pass

    def stop(progress: object) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        train_mesanet(config, ids, tmp_path / "b", stop, report_every=20, save_every=10)
    again = train_mesanet(config, ids, tmp_path / "b", lambda _: None)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert any(block.anchors.balance.abs().sum() > 0 for block in whole.blocks)  # pyright: ignore


def test_a_training_that_begins_with_a_trained_model_begins_where_that_one_ended(
    tmp_path: Path,
) -> None:
    config = MesaNetTrainingConfig(
        n_ctx=16, n_tokens=16 * 8 * 40, learning_rate=1e-2,
        model={
            "vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
            "n_anchors": 4, "anchor_width": 8, "anchor_key_size": 8, "shared_width": 16,
            "chunk_size": 8,
        },
    )  # fmt: skip
    ids = (np.arange(4000) * 7 % 37).astype(np.int32)
    losses: list[list[float]] = [[], []]
    first = train_mesanet(
        config, ids, tmp_path / "a", lambda p: losses[0].append(p.loss), report_every=5
    )
    again = replace(config, model={"from": "a"}, learning_rate=1e-4)
    train_mesanet(
        again, ids, tmp_path / "b", lambda p: losses[1].append(p.loss), report_every=5,
        begin_with=first,
    )  # fmt: skip
    assert losses[1][0] < losses[0][-1] + 0.1 < losses[0][0]
