"""EFAS where contexts begin with text instead of BOS, of an SAE that reads before its block: held
against transformers and autograd alone."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from transformers import GPT2LMHeadModel

from energylens.db.store import Store
from energylens.ingest.plan import IngestConfig
from energylens.queries.catalog import open_catalog
from tests.conftest import N_CTX, make_sae, make_store


def own_sae() -> Any:
    """It takes what block 1 is given."""
    return make_sae("standard", "blocks.1.hook_resid_pre", d_sae=48)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of up to three contexts, and an SAE."""
    root = tmp_path_factory.mktemp("first")
    own_sae().save_model(root / "sae")
    words = ["the", "cat", "sat", "on", "a", "mat", "dog", "barks", "at", "night", "1", "+", "="]
    generator = np.random.default_rng(4)
    with (root / "texts.jsonl").open("w") as lines:
        for _ in range(16):
            text = " ".join(generator.choice(words, generator.integers(3, 22)))
            lines.write(f'{{"text": "{text}"}}\n')
    return root


@pytest.fixture(scope="module")
def store(root: Path, gpt2_dir: Path) -> Any:
    config = IngestConfig(
        model=str(gpt2_dir),
        texts=str(root / "texts.jsonl"),
        saes=(str(root / "sae"),),
        prepend_bos=False,
        accept_gate=True,
    )
    make_store(root / "first.lens", config)
    with open_catalog(root / "first.lens") as opened:
        yield opened


@pytest.fixture(scope="module")
def by_hand(root: Path, gpt2_dir: Path, tokenizer: Any) -> dict[str, np.ndarray]:
    """Of every token with a next one: its place in its context, z, g, the energy read where the SAE
    reads, and that series' slope in its context with the sign turned."""
    model: Any = GPT2LMHeadModel.from_pretrained(gpt2_dir).eval()
    sae = own_sae()
    columns: dict[str, list[np.ndarray]] = {n: [] for n in ("pos", "z", "g", "energy", "slope")}
    for text in pl.read_ndjson(root / "texts.jsonl")["text"]:
        ids = tokenizer.encode(text, add_special_tokens=False)
        for start in range(0, len(ids), N_CTX):
            own = torch.tensor(ids[start : start + N_CTX])
            following = torch.tensor(ids[start + 1 : start + N_CTX + 1])
            with torch.no_grad():
                stream = model(own[None], output_hidden_states=True).hidden_states[1][0]
                z = torch.relu(stream @ sae.W_enc + sae.b_enc)
            h = stream[: len(following)].clone().requires_grad_()
            logits = model.lm_head(model.transformer.ln_f(h))
            energy = torch.nn.functional.cross_entropy(logits, following, reduction="none")
            (a,) = torch.autograd.grad(energy.sum(), h)
            series = energy.detach().double().numpy()
            columns["pos"].append(np.arange(len(series)))
            columns["z"].append(z[: len(series)].double().numpy())
            columns["g"].append(-(a @ sae.W_dec.detach().T).double().numpy())
            columns["energy"].append(series)
            slope = np.gradient(series) if len(series) > 1 else np.zeros(len(series))
            columns["slope"].append(-slope)
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def column(store: Store, variant: str, name: str) -> np.ndarray:
    rows = store.cursor().sql("FROM efas ORDER BY feature_id").pl()
    own = rows.filter(pl.col("variant") == variant)
    return own[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def test_a_first_token_of_text_counts_for_nothing(
    store: Store, by_hand: dict[str, np.ndarray]
) -> None:
    first = by_hand["pos"] == 0
    z = by_hand["z"]
    assert (z[first] != 0).any(axis=0).sum() > 40, "there is something to leave out"
    assert column(store, "lens", "n_active").tolist() == (z[~first] != 0).sum(axis=0).tolist()
    con = store.cursor()
    counts = "SELECT count(*) FILTER (pos = 0), count(*) FILTER (is_special), "
    masked = con.execute(counts + "count(*) FILTER (is_masked) FROM tokens").fetchone()
    n_contexts = con.execute("SELECT count(*) FROM contexts").fetchone()
    assert n_contexts is not None and masked == (n_contexts[0], 0, n_contexts[0])


@pytest.mark.parametrize(
    ("variant", "series"), [("lens", "g"), ("energy", "energy"), ("position", "slope")]
)
def test_efas_is_read_where_the_sae_reads(
    store: Store, by_hand: dict[str, np.ndarray], variant: str, series: str
) -> None:
    kept = by_hand["pos"] > 0
    z, y = by_hand["z"][kept], by_hand[series][kept]
    found = column(store, variant, "efas")
    n_checked = 0
    for f in np.flatnonzero((z != 0).sum(axis=0) > 2):
        own = y[:, f] if y.ndim == 2 else y
        assert found[f] == pytest.approx(stats.pearsonr(z[:, f], own)[0], abs=1e-5)
        n_checked += 1
    assert n_checked > 30
