"""Training resumes to the same weights, and what it makes loads and fits."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from energylens.errors import TrainingError
from energylens.training import checkpoint as checkpoints
from energylens.training import language_model
from energylens.training.corpus import Windows, pack
from energylens.training.language_model import LanguageModelConfig, next_token_loss, train
from energylens.training.loop import Progress, Watch
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


QUIET = Watch(quiet)


def test_training_learns(tmp_path: Path) -> None:
    config = replace(CONFIG, n_tokens=16 * 4 * 100)
    model = train(config, ids_of(), tmp_path / "c.safetensors", QUIET)
    untrained = language_model.build(config)
    batch = Windows(ids_of(), 16, 4, seed=9).batch(0)
    with torch.no_grad():
        assert next_token_loss(model, batch) < next_token_loss(untrained, batch) - 1.0


def test_an_interrupted_training_ends_at_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(CONFIG, ids_of(), tmp_path / "whole.safetensors", QUIET)
    batch, calls = Windows.batch, []

    def cut(self: Windows, step: int) -> torch.Tensor:
        calls.append(step)
        if len(calls) == 13:
            raise KeyboardInterrupt
        return batch(self, step)

    monkeypatch.setattr(Windows, "batch", cut)
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, ids_of(), tmp_path / "cut.safetensors", Watch(quiet, save_every=5))
    resumed = train(CONFIG, ids_of(), tmp_path / "cut.safetensors", Watch(quiet, save_every=5))
    assert calls[:13] == [*range(13)] and calls[13] == 10
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_keeps_it_and_the_training_goes_on_to_the_same_weights(
    tmp_path: Path, kind: signal.Signals
) -> None:
    whole = train(CONFIG, ids_of(), tmp_path / "whole.safetensors", QUIET)
    steps: list[int] = []

    def told(progress: Progress) -> None:
        steps.append(progress.step)
        if progress.step == 7:
            os.kill(os.getpid(), kind)

    path = tmp_path / "cut.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, ids_of(), path, Watch(told, report_every=1, save_every=1000))
    assert steps[-1] == 7 and path.exists()
    resumed = train(CONFIG, ids_of(), path, Watch(told, report_every=1))
    assert steps[7] == 8 and signal.getsignal(kind) is not None
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_checkpoints_of_other_trainings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    train(replace(CONFIG, n_tokens=64), ids_of(), path, QUIET)
    with pytest.raises(TrainingError, match=r"other settings: n_tokens 64, not 1280; "):
        train(CONFIG, ids_of(), path, QUIET)
    with pytest.raises(TrainingError, match="other texts"):
        train(replace(CONFIG, n_tokens=64), ids_of()[:-1], path, QUIET)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TrainingError, match=r"cannot read the checkpoint .* remove it"):
        train(replace(CONFIG, n_tokens=64), ids_of(), path, QUIET)


def test_a_checkpoint_of_another_shape_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.safetensors"
    train(CONFIG, ids_of(), path, QUIET)
    other = language_model.build(replace(CONFIG, d_model=64))
    monkeypatch.setattr(language_model, "build", lambda _: other)
    with pytest.raises(TrainingError, match=r"of another model; give another directory"):
        train(CONFIG, ids_of(), path, QUIET)


def test_a_loss_that_is_no_number_stops_before_the_weights_and_names_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, calls = tmp_path / "c.safetensors", []

    def loss_of(model: Any, windows: torch.Tensor) -> torch.Tensor:
        calls.append(model)
        return next_token_loss(model, windows) * (torch.nan if len(calls) > 12 else 1.0)

    monkeypatch.setattr(language_model, "next_token_loss", loss_of)
    starts = ", ".join(f"{start:,}" for start in Windows(ids_of(), 16, 4, 0).starts(12))
    said = rf"loss of step 12 is nan, in the windows that begin at tokens {starts}; .* of step 10 "
    with pytest.raises(TrainingError, match=said):
        train(CONFIG, ids_of(), path, Watch(quiet, save_every=5))
    assert all(p.isfinite().all() for p in calls[0].parameters())


def test_a_gradient_that_is_no_number_never_reaches_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []

    def loss_of(model: Any, windows: torch.Tensor) -> torch.Tensor:
        models.append(model)
        zero = next(model.parameters()).flatten()[:1] * 0
        return zero.sqrt().sum()  # 0, and its gradient is not finite

    monkeypatch.setattr(language_model, "next_token_loss", loss_of)
    with pytest.raises(TrainingError, match=r"gradient of step 0 is nan.*there is no checkpoint"):
        train(CONFIG, ids_of(), tmp_path / "c.safetensors", QUIET)
    assert all(p.isfinite().all() for p in models[0].parameters())


def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, save = tmp_path / "c.safetensors", checkpoints.save_file

    def full(tensors: Any, target: Path, metadata: dict[str, str]) -> None:
        if metadata["step"] == "10":
            target.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(tensors, target, metadata=metadata)

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(TrainingError, match=r"step 10 .*No space left.*of step 5 .* make room"):
        train(CONFIG, ids_of(), path, Watch(quiet, save_every=5))
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]
    monkeypatch.setattr(checkpoints, "save_file", save)
    train(CONFIG, ids_of(), path, Watch(quiet, save_every=5))


def test_tokens_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    ids = np.append(ids_of(), VOCAB).astype(np.int32)
    with pytest.raises(TrainingError, match=f"hold token {VOCAB}, and the model knows {VOCAB}"):
        train(CONFIG, ids, tmp_path / "c.safetensors", QUIET)


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="too few"):
        train(CONFIG, ids_of(30), tmp_path / "c.safetensors", QUIET)


def test_packed_texts_begin_with_bos(tokenizer: Any) -> None:
    ids = pack(tokenizer, ["The cat", "", "Fish."])
    starts = np.flatnonzero(ids == tokenizer.bos_token_id)
    assert len(starts) == 3 and starts[0] == 0
    assert tokenizer.decode(ids[starts[2] + 1 :]) == "Fish."


def test_every_window_of_a_pass_is_read_once() -> None:
    windows = Windows(np.arange(100, dtype=np.int32), n_ctx=7, batch_size=2, seed=3)
    seen = torch.cat([windows.batch(s) for s in range(windows.steps_per_pass)]).flatten()
    assert len(seen.unique()) == len(seen)
