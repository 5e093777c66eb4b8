"""Whatever ends a training of SAEs, nothing it has done is lost."""

import errno
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from energylens.errors import TrainingError
from energylens.training import checkpoint as checkpoints
from energylens.training.saes import loop
from energylens.training.saes.directory import UNDER_WAY, Directory
from energylens.training.saes.loop import train_saes
from energylens.training.saes.trainee import Trainee
from tests.training_saes import HOOK, Planted, Quiet, config_of, trained, weights


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


def test_a_record_that_cannot_be_written_leaves_a_directory_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    place = Directory(tmp_path / "out")
    with monkeypatch.context() as disk:
        disk.setattr(Path, "replace", full)
        with pytest.raises(TrainingError, match=r"training.json': No space left"):
            place.begin({"seed": 0})
    assert list(place.path.iterdir()) == []
    with monkeypatch.context() as killed:
        killed.setattr(Path, "replace", lambda *_: None)
        killed.setattr(Path, "unlink", lambda *_, **__: None)
        place.begin({"seed": 0})
    assert len(list(place.path.iterdir())) == 1
    place.check_empty_or_ours()
    place.begin({"seed": 0})
    assert [path.name for path in place.path.iterdir()] == ["training.json"]


def test_a_finished_training_is_cleared_of_what_a_kill_left(tmp_path: Path) -> None:
    place = Directory(tmp_path)
    place.finish({"seed": 0})
    place.checkpoint.write_bytes(b"")
    (tmp_path / UNDER_WAY / "x").mkdir(parents=True)
    assert place.is_finished({"seed": 0})
    place.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["training.json"]


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
