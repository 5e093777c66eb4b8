"""Small models, SAEs, texts and stores that the tests make themselves; nothing is downloaded."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that asks the hub must fail at once
os.environ["OMP_NUM_THREADS"] = "1"  # models this small only wait for a second thread

import hypothesis
import numpy as np
import pyarrow as pa
import pytest
import torch
from sae_lens import (
    JumpReLUSAE,
    JumpReLUSAEConfig,
    StandardSAE,
    StandardSAEConfig,
    TopKSAE,
    TopKSAEConfig,
)
from sae_lens.saes.sae import SAEMetadata
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedTokenizerFast,
)

from energylens.db.explanations import Explanation, write_explanations
from energylens.db.index_files import add_measured
from energylens.db.layout import StoreLayout
from energylens.db.notes import Note, write_note
from energylens.db.ratings import Rating, write_rating
from energylens.db.schema import TABLES
from energylens.db.scores import ExplanationScore, write_scores
from energylens.db.store import Store
from energylens.ingest.graphs import import_graphs
from energylens.ingest.index.build import build_indexes
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.lens.models import LanguageModel, load_model
from energylens.mesanet.config import MesaNetConfig
from energylens.mesanet.model import MesaNetForCausalLM
from energylens.queries.catalog import open_catalog
from energylens.training.corpus import train_tokenizer
from tests import graphs

hypothesis.settings.register_profile("here", deadline=None, database=None)
hypothesis.settings.load_profile("here")


def pytest_collection_finish() -> None:
    """Millions of objects of imported modules are looked through in no collection any more."""
    gc.freeze()


_status: int | None = None


def pytest_sessionfinish(exitstatus: int) -> None:
    global _status
    _status = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """The process ends here. In the interpreter's own end the classes of duckdb are still held by
    what checks types at run time, and its binding would report them, page after page."""
    gc.unfreeze()
    if _status is not None:
        config.get_terminal_writer().flush()
        sys.stderr.flush()
        os._exit(_status)


SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Real models and texts beside the repository; tests that need them are skipped without."""

OLD_STORE = Path(__file__).parent / "data/store-0.1.0.lens"
"""A store that version 0.1.0 made; see README.md beside it."""

D_MODEL, N_CTX, VOCAB = 24, 16, 300
TEXTS = {
    "animals": [
        "The cat sat on the mat and looked at the other cat.",
        "A dog barks. 🐕 Another dog barks back, and so it goes on all night long.",
        "Fish.",
    ],
    "numbers": [
        "1 + 1 = 2, 2 + 2 = 4, 4 + 4 = 8",
        "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
        "x",
    ],
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer whose BOS has the id 0."""
    return train_tokenizer([text for texts in TEXTS.values() for text in texts], VOCAB)


def make_gpt2(seed: int = 0, **changes: Any) -> GPT2LMHeadModel:
    """A GPT-2 with random weights, large enough that its logits are not flat."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCAB, n_embd=D_MODEL, n_layer=3, n_head=2, n_positions=N_CTX,
        bos_token_id=0, eos_token_id=0, initializer_range=0.3, **changes,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def make_llama(seed: int = 0) -> LlamaForCausalLM:
    """A Llama with random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=D_MODEL, intermediate_size=40, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=N_CTX,
        bos_token_id=0, eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def make_mixtral(seed: int = 0) -> MixtralForCausalLM:
    """A mixture of four experts, two a token, with random weights."""
    torch.manual_seed(seed)
    config = MixtralConfig(
        vocab_size=VOCAB, hidden_size=D_MODEL, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=N_CTX,
        num_local_experts=4, num_experts_per_tok=2, bos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    return MixtralForCausalLM(config).eval()


def make_mesanet(**changes: Any) -> MesaNetForCausalLM:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": VOCAB, "hidden_size": D_MODEL, "num_hidden_layers": 3,
        "num_attention_heads": 3, "n_anchors": 4, "anchor_width": 8, "anchor_key_size": 8,
        "shared_width": 16, "chunk_size": 8, "max_position_embeddings": N_CTX,
    }  # fmt: skip
    return MesaNetForCausalLM(MesaNetConfig(**(settings | changes))).eval()


def make_sae(
    kind: str, hook_name: str, d_in: int = D_MODEL, d_sae: int = 32, **metadata: Any
) -> Any:
    """An SAE that reconstructs: an orthonormal pair of directions for each axis, plus and minus."""
    known = SAEMetadata(hook_name=hook_name, prepend_bos=True, context_size=N_CTX, **metadata)
    if kind == "topk":
        sae: Any = TopKSAE(TopKSAEConfig(d_in=d_in, d_sae=d_sae, k=16, metadata=known))
    elif kind == "jumprelu":
        sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=d_in, d_sae=d_sae, metadata=known))
    else:
        sae = StandardSAE(StandardSAEConfig(d_in=d_in, d_sae=d_sae, metadata=known))
    generator = torch.Generator().manual_seed(d_sae)
    basis = torch.linalg.qr(torch.randn(d_in, d_in, generator=generator)).Q
    directions = torch.cat([basis, -basis])[:d_sae]
    with torch.no_grad():
        sae.W_dec.copy_(directions)
        sae.W_enc.copy_(directions.T)
        sae.b_enc.zero_()
        sae.b_dec.zero_()
        if kind == "jumprelu":
            sae.threshold.fill_(0.1)
    return sae


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture(scope="session")
def save_model(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> Callable[..., Path]:
    """Saves a Hugging Face model with the test tokenizer; the directory."""

    def save(model: Any, with_tokenizer: Any = tokenizer) -> Path:
        folder = tmp_path_factory.mktemp("model")
        model.save_pretrained(folder)
        with_tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def gpt2_dir(save_model: Callable[..., Path]) -> Path:
    return save_model(make_gpt2())


@pytest.fixture(scope="session")
def llama_dir(save_model: Callable[..., Path]) -> Path:
    return save_model(make_llama())


@pytest.fixture(scope="session")
def gpt2(gpt2_dir: Path) -> LanguageModel:
    return load_model(str(gpt2_dir))


@pytest.fixture(scope="session")
def llama(llama_dir: Path) -> LanguageModel:
    return load_model(str(llama_dir))


@pytest.fixture(scope="session")
def mesanet_dir(save_model: Callable[..., Path]) -> Path:
    return save_model(make_mesanet())


@pytest.fixture(scope="session")
def mesanet(mesanet_dir: Path) -> LanguageModel:
    return load_model(str(mesanet_dir))


@pytest.fixture(scope="session")
def saes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two SAEs: a wide standard one on block 1, a top-k one on the MLP output of block 2."""
    root = tmp_path_factory.mktemp("saes")
    for name, kind, hook, d_sae in (
        ("resid", "standard", "blocks.1.hook_resid_post", 48),
        ("mlp", "topk", "blocks.2.hook_mlp_out", 40),
    ):
        make_sae(kind, hook, d_sae=d_sae).save_model(root / name)
    return root


@pytest.fixture(scope="session")
def texts_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("texts")
    for category, texts in TEXTS.items():
        (root / category).mkdir()
        for number, text in enumerate(texts):
            (root / category / f"{number}.txt").write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def config(gpt2_dir: Path, saes_dir: Path, texts_dir: Path) -> IngestConfig:
    """An ingest of everything small."""
    return IngestConfig(model=str(gpt2_dir), texts=str(texts_dir), saes=(str(saes_dir),))


def make_store(path: Path, config: IngestConfig, with_index: bool = True) -> str:
    """Ingest and index; the run's id."""
    prepared = prepare(path, load(config))
    ingest(prepared, Part(), Progress())
    if with_index:
        build_indexes(path, Progress())
    return prepared.run.run_id


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What programs remember between starts is that of the tests."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory, config: IngestConfig) -> Path:
    """A finished store; tests that write make their own."""
    path = tmp_path_factory.mktemp("store") / "tiny.lens"
    make_store(path, config)
    return path


@pytest.fixture(scope="session")
def store(store_path: Path) -> Iterator[Store]:
    """It, open; tests that confine, change or close one open their own."""
    with open_catalog(store_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def rich_path(tmp_path_factory: pytest.TempPathFactory, save_model: Callable[..., Path]) -> Path:
    """A store that has rows of every table: a mixture of experts, SAEs on two layers and an MLP,
    forty texts of two categories and of none, every gradient."""
    root = tmp_path_factory.mktemp("rich")
    for name, hook, d_sae in (
        ("one", "blocks.0.hook_resid_post", 48),
        ("two", "blocks.1.hook_resid_post", 40),
        ("mlp", "blocks.1.hook_mlp_out", 40),
    ):
        sae = make_sae("standard", hook, d_sae=d_sae)
        if name == "one":  # sparse, with two features that are active together
            with torch.no_grad():
                sae.b_enc.fill_(-2.5)
                sae.W_enc[:, 7] = sae.W_enc[:, 8]
        sae.save_model(root / "saes" / name)
    words = ["the", "cat", "sat", "on", "a", "mat", "dog", "barks", "at", "night", "1", "+", "="]
    generator = np.random.default_rng(0)
    with (root / "texts.jsonl").open("w") as lines:
        for number in range(40):
            chosen = generator.choice(words[number % 2 * 4 :], generator.integers(6, 14))
            category = f', "category": "{"ab"[number % 2]}"' if number % 5 else ""
            lines.write(f'{{"text": "{" ".join(chosen)}"{category}}}\n')
    config = IngestConfig(
        model=str(save_model(make_mixtral())),
        texts=str(root / "texts.jsonl"),
        saes=(str(root / "saes"),),
        efas=("lens", "own", "total", "calibration"),
        accept_gate=True,
    )
    make_store(root / "rich.lens", config)
    write_effects(root / "rich.lens")
    run = StoreLayout(root / "rich.lens").runs()[0]
    write_note(run, Note(run.root.name, "one", 7, is_starred=True, note="goes with feature 8"))
    write_explanations(run, "one", [Explanation(run.root.name, "one", 3, "even numbers")])
    write_scores(
        run, [ExplanationScore(run.root.name, "one", 3, "even numbers", "", "", "told", score=0.7)]
    )
    for rater, numbers in (("ada", (3, 5, 2, 1)), ("bob", (2, 4, 2, 3))):
        write_rating(run, Rating(run.root.name, "one", 3, rater, *numbers))
    files = graphs.write(
        root, graphs.small(), graphs.colliding(), graphs.random_graph("chance", 40, 200)
    )
    joins = ["0=one", "1=two"]
    import_graphs(root / "rich.lens", files, run.root.name, joins, False, Progress())
    return root / "rich.lens"


def write_effects(path: Path) -> None:
    """A row of each table of routing's effects, which are measured on MesaNets alone, and of
    heads, which take a pass over the texts."""
    layout = StoreLayout(path).runs()[0]
    rows = {
        "energy_permutations": {"router": "all", "layer": None},
        "anchor_ablations": {"router": "blocks.0.mlp.gate", "layer": 0, "choice_id": 1},
        "heads": {"layer": 0, "head": 1, "kind": "attention", "copying_random_975": 0.5},
        "head_pairs": {"layer": 0, "head": 1, "rank": 0, "token_index": 3, "source_index": 2},
        "skip_trigrams": {
            "layer": 0,
            "head": 1,
            "source": "a",
            "destination": "b",
            "out_token": "c",
        },
        "bigrams": {"rank": 0, "token": "a", "next_token": "b"},
        "head_compositions": {"how": "K", "layer": 0, "head": 1, "to_layer": 1, "to_head": 0},
    }
    with add_measured(layout, tuple(rows)) as writer:
        for name, known in rows.items():
            schema = TABLES[name].arrow
            row = {field: known.get(field, 1) for field in schema.names}
            row["run_id"] = layout.root.name
            with writer.table(name) as out:
                out.write(pa.Table.from_pylist([row], schema=schema))


@pytest.fixture(scope="session")
def rich(rich_path: Path) -> Iterator[Store]:
    """It, open; tests that confine, change or close one open their own."""
    with open_catalog(rich_path) as opened:
        yield opened


@pytest.fixture
def rich_run(rich: Store) -> str:
    return rich.runs[0].info.run_id


@pytest.fixture
def run_id(store: Store) -> str:
    return store.runs[0].info.run_id


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards and blocks of a few tokens, so that small corpora have several."""
    monkeypatch.setattr("energylens.ingest.corpus.SHARD_TOKENS", 40)
    monkeypatch.setattr("energylens.ingest.run.BLOCK_TOKENS", 20)
