"""A tiny store and the long commands that change it, as the command runs them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import energylens.ingest.corpus
import energylens.ingest.run
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.merge import merge_stores
from energylens.db.notes import Note, write_note
from energylens.ingest.index.build import build_indexes
from energylens.ingest.on_request.additions import add_vectors
from energylens.ingest.plan import IngestConfig, Loaded, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import Part, ingest
from tests.conftest import N_CTX, make_gpt2, make_sae, make_tokenizer

HOOK = "blocks.1.hook_resid_post"


@dataclass(frozen=True)
class Stage:
    """Where everything lies, and what is loaded once."""

    folder: Path
    loaded: Loaded

    @property
    def store(self) -> Path:
        """The store that things happen to."""
        return self.folder / "x.lens"


def build_stage(folder: Path, started: Callable[..., int], ended: Callable[[int], int]) -> Stage:
    """A model, an SAE, texts, and whole stores to begin from; those are made in forks."""
    torch.set_num_threads(1)
    energylens.ingest.corpus.SHARD_TOKENS = energylens.ingest.run.BLOCK_TOKENS = 12
    model = make_gpt2()
    model.save_pretrained(folder / "model")
    make_tokenizer().save_pretrained(folder / "model")
    make_sae("standard", HOOK, d_sae=32).save_model(folder / "sae")
    (folder / "texts").mkdir(exist_ok=True)
    for number, text in enumerate(
        ("The cat sat on the mat.", "A dog barks back all night.", "1 + 1 = 2")
    ):
        (folder / "texts" / f"{number}.txt").write_text(text)
    loaded = load(
        IngestConfig(
            model=str(folder / "model"),
            texts=str(folder / "texts"),
            saes=(str(folder / "sae"),),
            n_ctx=N_CTX,
            accept_gate=True,
            run_id="r",
        )
    )
    stage = Stage(folder, loaded)
    for name, part in (("whole", Part()), ("odd", Part(0, 2)), ("even", Part(1, 2))):
        store = folder / f"{name}.lens"
        if not store.exists():
            assert ended(started(lambda s=store, p=part: _ingest(stage, s, p))) == 0
    return stage


def _ingest(stage: Stage, store: Path, part: Part) -> None:
    ingest(prepare(store, stage.loaded), part, Progress())


def _index(store: Path) -> None:
    build_indexes(store, Progress(), n_flips=9)


def _note(stage: Stage) -> None:
    for feature in range(3):
        write_note(_run(stage), Note("r", "sae", feature, is_starred=True))


def _run(stage: Stage) -> RunLayout:
    return StoreLayout(stage.store).run("r")


def _whole(stage: Stage) -> Path:
    return stage.folder / "whole.lens"


COMMANDS: dict[str, tuple[Callable[[Stage], Path | None], Callable[[Stage], Any]]] = {
    "ingest": (lambda stage: None, lambda stage: _ingest(stage, stage.store, Part())),
    "index": (_whole, lambda stage: _index(stage.store)),
    "recompute": (
        _whole,
        lambda stage: add_vectors(stage.store, "r", "activations", HOOK, Progress()),
    ),
    "merge": (
        lambda stage: None,
        lambda stage: merge_stores(
            stage.store, [stage.folder / "odd.lens", stage.folder / "even.lens"]
        ),
    ),
    "notes": (_whole, _note),
}
"""By name: the store a command begins from, None for none, and what it does."""
