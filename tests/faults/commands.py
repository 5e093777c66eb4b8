"""A tiny store and the long commands that change it, as the command runs them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import energylens.ingest.corpus
import energylens.ingest.on_request.causality as causality
import energylens.ingest.run
from energylens.cli.train import lm, mesanet
from energylens.cli.train_saes import sae
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.merge import merge_stores
from energylens.db.notes import Note, write_note
from energylens.db.ratings import Rating, write_rating
from energylens.db.store import Store
from energylens.explaining.scoring import KINDS
from energylens.explaining.speaker import Prompt
from energylens.ingest.exchange.delphi import export_delphi
from energylens.ingest.exchange.headvis import export_headvis
from energylens.ingest.explanations import explain
from energylens.ingest.graphs import import_graphs
from energylens.ingest.index.build import build_indexes
from energylens.ingest.on_request.additions import add_sae, add_vectors
from energylens.ingest.on_request.another_gradient import add_variant
from energylens.ingest.on_request.excerpts import Excerpts
from energylens.ingest.on_request.explain import carry_out, tasks_to_write
from energylens.ingest.on_request.heads import measure_heads
from energylens.ingest.on_request.prompt import prompt
from energylens.ingest.on_request.reopen import reopen
from energylens.ingest.on_request.repair import repair
from energylens.ingest.on_request.repair_split import Wish
from energylens.ingest.on_request.routing_effects import measure_routing
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, Loaded, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.protocol import PromptRequest
from energylens.queries.catalog import call, open_catalog, write_catalog
from energylens.queries.lists import export_list, import_list
from energylens.queries.pages.feature_pages import most_active, write_feature_folder
from energylens.queries.writing import SUFFIXES, write_file
from energylens.report.build import write_report
from tests import graphs
from tests.conftest import N_CTX, make_gpt2, make_mesanet, make_sae, make_tokenizer

HOOK = "blocks.1.hook_resid_post"


@dataclass(frozen=True)
class Stage:
    """Where everything lies, and what is loaded once."""

    folder: Path
    loaded: Loaded

    @property
    def disk(self) -> Path:
        """Where a disk of a size of its own may be mounted."""
        return self.folder / "disk"

    @property
    def store(self) -> Path:
        """The store, or the folder, that things happen to."""
        return self.disk / "x.lens"

    @property
    def run(self) -> RunLayout:
        return StoreLayout(self.store).run("r")


@dataclass(frozen=True)
class Command:
    """What is broken."""

    run: Callable[[Stage], Any]
    begins_from: str | None = None
    """The name of a store; None for none."""
    is_store: bool = True
    """What it makes is a store."""


def build_stage(folder: Path, started: Callable[..., int], ended: Callable[[int], int]) -> Stage:
    """A model, SAEs, texts, and whole stores to begin from; those are made in forks."""
    torch.set_num_threads(1)
    energylens.ingest.corpus.SHARD_TOKENS = energylens.ingest.run.BLOCK_TOKENS = 12
    causality.sample = _sampled
    (folder / "disk").mkdir(parents=True, exist_ok=True)
    for name, model in (("model", make_gpt2()), ("mesanet", make_mesanet())):
        model.save_pretrained(folder / name)
        make_tokenizer().save_pretrained(folder / name)
    for name, d_sae in (("sae", 32), ("other", 40)):
        make_sae("standard", HOOK, d_sae=d_sae).save_model(folder / name)
    (folder / "texts").mkdir(exist_ok=True)
    for number, text in enumerate(
        ("The cat sat on the mat.", "A dog barks back all night.", "1 + 1 = 2")
    ):
        (folder / "texts" / f"{number}.txt").write_text(text)
    (folder / "many").mkdir(exist_ok=True)
    for number in range(20):  # as many as a repair asks for
        words = ("The cat sat on the mat.", "A dog barks.", "1 + 1 = 2.")[number % 3]
        (folder / "many" / f"{number}.txt").write_text(f"{words} {number}")
    (folder / "long.txt").write_text("The cat sat on the mat. A dog barks all night long. " * 20)
    (folder / "said.csv").write_text("feature_id,description\n1,animals\n2,numbers\n")
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
    for name, make in _WHOLE.items():
        store = folder / f"{name}.lens"
        shutil.rmtree(store, ignore_errors=True)  # another version may have made it
        assert ended(started(lambda s=store, m=make: m(stage, s))) == 0, name
    return stage


def _sampled(opened: Store, *_: object) -> list[causality.Sampled]:
    """Two features that are active: so few tokens have none whose EFAS is significant."""
    rows = opened.cursor().execute(
        "SELECT feature_id FROM features WHERE n_active > 0 ORDER BY n_active DESC, feature_id"
    )
    (one,), (other,) = rows.fetchmany(2)
    return [causality.Sampled(one, 0.1, None), causality.Sampled(other, 0.0, one)]


def index_of(store: Path) -> None:
    build_indexes(store, Progress(), n_flips=9)


def _ingest(stage: Stage, store: Path, part: Part) -> None:
    ingest(prepare(store, stage.loaded), part, Progress())


def _indexed(stage: Stage, store: Path) -> None:
    _ingest(stage, store, Part())
    index_of(store)
    write_catalog(store)


def _headed(stage: Stage, store: Path) -> None:
    _indexed(stage, store)
    measure_heads(store, "r", 2, Progress())


def _kept(stage: Stage, store: Path) -> None:
    _ingest(stage, store, Part())
    add_vectors(store, "r", "activations", HOOK, Progress())


def _routed(stage: Stage, store: Path) -> None:
    config = IngestConfig(
        model=str(stage.folder / "mesanet"),
        texts=str(stage.folder / "texts"),
        n_ctx=N_CTX,
        run_id="r",
    )
    ingest(prepare(store, load(config)), Part(), Progress())
    index_of(store)


def _repairable(stage: Stage, store: Path) -> None:
    config = replace(stage.loaded.config, texts=str(stage.folder / "many"))
    ingest(prepare(store, load(config)), Part(), Progress())
    index_of(store)


_WHOLE: dict[str, Callable[[Stage, Path], None]] = {
    "whole": lambda stage, store: _ingest(stage, store, Part()),
    "odd": lambda stage, store: _ingest(stage, store, Part(0, 2)),
    "even": lambda stage, store: _ingest(stage, store, Part(1, 2)),
    "indexed": _indexed,
    "kept": _kept,
    "headed": _headed,
    "routed": _routed,
    "repairable": _repairable,
}
"""Stores to begin from, by name."""


def _note(stage: Stage) -> None:
    for feature in range(3):
        write_note(stage.run, Note("r", "sae", feature, is_starred=True))


def _explain(stage: Stage) -> None:
    with open_catalog(stage.store) as opened:
        info = opened.run("r").info
    explain(stage.run, info, [stage.folder / "said.csv"], "sae", False)
    write_catalog(stage.store)


def _rate(stage: Stage) -> None:
    for rater in ("ada", "bob"):
        write_rating(stage.run, Rating("r", "sae", 1, rater, 3, 5, 2, 1))


def _share(stage: Stage) -> None:
    """Take in a list with a row of each kind that the store has not."""
    path, of = stage.folder / "list.json", {"run_id": "r", "sae_id": "sae", "feature_id": 1}
    said = {"description": "x", "method": "", "model": ""}
    numbers = {"confidence": 1, "consistency": 1, "completeness": 1, "specificity": 1}
    with open_catalog(stage.store) as opened:
        export_list(opened, "r", path)
        raw = json.loads(path.read_text("utf-8"))
        raw["known"] = {
            "notes": [{**of, "is_starred": True, "changed": "2026-01-01T00:00Z"}],
            "explanations": [{**of, **said}],
            "explanation_scores": [{**of, **said, "score_type": "told", "score": 0.5}],
            "ratings": [{**of, "rater": "ada", **numbers}],
        }
        path.write_text(json.dumps(raw), "utf-8")
        import_list(opened, path)


class _Speaker:
    """Says the same of everything."""

    name = "speaker"

    def say(self, prompt: Prompt) -> str:
        n = prompt.user.count("\n")
        return str([k % 2 for k in range(n)]) if prompt.user.startswith("Said: ") else "animals"


def _judge(stage: Stage) -> None:
    """Features of which some are explained, and all judged."""
    with open_catalog(stage.store) as opened:
        tasks = tasks_to_write(opened, "r", "sae", [1, 2, 3, 4], _Speaker.name, KINDS)
        excerpts = Excerpts(opened, "r", "sae")
        carry_out(stage.run, "sae", excerpts, _Speaker(), tasks, Progress())
    write_catalog(stage.store)


def _pages(stage: Stage) -> None:
    with open_catalog(stage.folder / "indexed.lens") as opened:
        run = opened.run("r").info
        features = most_active(opened, "r", "sae", 3)
        if not stage.store.exists():
            write_feature_folder(opened, run, run.saes[0], features, stage.store, lambda *_: None)


def _report(stage: Stage) -> None:
    with open_catalog(stage.folder / "indexed.lens") as opened:
        if not stage.store.exists():
            write_report(opened, opened.run("r").info, 3, stage.store, lambda _: None)


def _headvis(stage: Stage) -> None:
    if not stage.store.exists():
        export_headvis(stage.folder / "headed.lens", "r", stage.store, Progress())


def _delphi(stage: Stage) -> None:
    with open_catalog(stage.folder / "indexed.lens") as opened:
        if not stage.store.exists():
            export_delphi(opened, "r", "sae", stage.store, 3, Progress())


def _graphs(stage: Stage) -> None:
    """Two parts, of which the second keeps the first."""
    folder = stage.folder / "graphs"
    folder.mkdir(exist_ok=True)
    files = graphs.write(folder, *(graphs.small(slug) for slug in "abc"))
    for some in (files[:2], files):
        import_graphs(stage.store, some, None, [], False, Progress())


def _train(stage: Stage) -> None:
    lm(
        stage.store,
        str(stage.folder / "long.txt"),
        n_tokens=128,
        vocab_size=300,
        d_model=32,
        n_layers=1,
        n_ctx=8,
    )


def _train_mesanet(stage: Stage) -> None:
    mesanet(
        stage.store,
        str(stage.folder / "long.txt"),
        n_tokens=64,
        vocab_size=300,
        d_model=24,
        n_layers=2,
        n_heads=2,
        n_anchors=3,
        n_ctx=8,
    )


def _train_sae(stage: Stage) -> None:
    sae(
        stage.store,
        store=stage.folder / "kept.lens",
        hook=[HOOK],
        arch="topk",
        d_sae=8,
        k=2,
        batch=4,
        n_tokens=64,
        dtype="float32",
    )


def _export(stage: Stage) -> None:
    with open_catalog(stage.folder / "indexed.lens") as opened:
        rows = call(opened, "strongest_features", k=1_000)
    stage.store.mkdir(exist_ok=True)
    for how, suffix in SUFFIXES.items():
        write_file(rows, stage.store / f"rows.{suffix}", how)


_WISH = Wish(top=2, by="attribution", step=0.3, n_splits=2, seed=0, tunes=False)
COMMANDS: dict[str, Command] = {
    "ingest": Command(lambda stage: _ingest(stage, stage.store, Part())),
    "index": Command(lambda stage: index_of(stage.store), "whole"),
    "recompute": Command(
        lambda stage: add_vectors(stage.store, "r", "activations", HOOK, Progress()), "whole"
    ),
    "recompute an SAE": Command(
        lambda stage: add_sae(stage.store, "r", str(stage.folder / "other"), True, Progress()),
        "kept",
    ),
    "merge": Command(
        lambda stage: merge_stores(
            stage.store, [stage.folder / "odd.lens", stage.folder / "even.lens"]
        )
    ),
    "efas": Command(
        lambda stage: add_variant(stage.store, "r", "sae", "own", Progress()), "indexed"
    ),
    "causality": Command(
        lambda stage: causality.measure_effects(stage.store, "r", "sae", 1, 1, 0, Progress()),
        "indexed",
    ),
    "heads": Command(
        lambda stage: measure_heads(stage.store, "r", 2, Progress()),
        "indexed",
    ),
    "routing": Command(lambda stage: measure_routing(stage.store, "r", 3, 0, Progress()), "routed"),
    "repair": Command(
        lambda stage: repair(stage.store, "r", "sae", _WISH, 20, Progress()), "repairable"
    ),
    "prompt": Command(
        lambda stage: prompt(reopen(stage.store, "r"), PromptRequest("The cat sat.", keep=True)),
        "whole",
    ),
    "explain": Command(_explain, "whole"),
    "explain write": Command(_judge, "indexed"),
    "notes": Command(_note, "whole"),
    "ratings": Command(_rate, "whole"),
    "import list": Command(_share, "whole"),
    "import graph": Command(_graphs, "whole"),
    "train": Command(_train, is_store=False),
    "train a MesaNet": Command(_train_mesanet, is_store=False),
    "train an SAE": Command(_train_sae, is_store=False),
    "export": Command(_export, is_store=False),
    "export headvis": Command(_headvis, is_store=False),
    "export delphi": Command(_delphi, is_store=False),
    "page": Command(_pages, is_store=False),
    "report": Command(_report, is_store=False),
}
"""By name."""
