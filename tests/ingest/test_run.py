"""Rows of an ingest against transformers and sae-lens run by hand, one text at a time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from energylens.db.merge import merge_stores
from energylens.db.shards import ShardWriter
from energylens.db.store import open_store
from energylens.db.verify import verify_store
from energylens.errors import ModelError, SaeError, UsageError
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.lens.energy import lens_energies
from energylens.lens.models import LanguageModel, load_model
from energylens.lens.saes import load_saes
from tests.conftest import N_CTX, SHARED, TEXTS, make_sae, make_store


def rows(path: Path, table: str, order: str) -> pl.DataFrame:
    with open_store(path) as store:
        return pl.DataFrame(
            store.cursor().sql(f"SELECT * FROM {table} ORDER BY {order}").to_arrow_table()
        )


ORDERS = {
    "texts": "text_id",
    "contexts": "context_id",
    "tokens": "token_index",
    "codes": "sae_id, token_index, feature_id",
    "energies": "token_index, layer",
    "activations": "hook_name, token_index",
    "energy_gradients": "hook_name, token_index",
}


def assert_same_rows(one: Path, other: Path, exact: bool = False) -> None:
    """Keys exactly alike; floats alike to what changes when a batch is summed in another order."""
    for table, order in ORDERS.items():
        a, b = rows(one, table, order), rows(other, table, order)
        assert len(a) and a.height == b.height, table
        for name, kind in a.schema.items():
            left, right = a[name], b[name]
            if kind.is_float() and not exact:
                assert left.is_null().equals(right.is_null())
                np.testing.assert_allclose(
                    left.fill_null(0.0), right.fill_null(0.0), rtol=2e-4, atol=2e-5, err_msg=name
                )
            elif isinstance(kind, pl.List) and not exact:
                both = pl.DataFrame({"a": left, "b": right}).drop_nulls()
                assert left.is_null().equals(right.is_null())
                np.testing.assert_allclose(
                    both["a"].explode(), both["b"].explode(), rtol=2e-4, atol=2e-5, err_msg=name
                )
            else:
                assert left.equals(right), (table, name)


@pytest.fixture(scope="module")
def full_config(config: IngestConfig) -> IngestConfig:
    return replace(config, keep=("activations", "gradients"), hooks=("blocks.0.hook_attn_out",))


@pytest.fixture(scope="module")
def full_store(tmp_path_factory: pytest.TempPathFactory, full_config: IngestConfig) -> Path:
    path = tmp_path_factory.mktemp("run") / "full.lens"
    make_store(path, full_config, with_index=False)
    return path


def by_hand(model: LanguageModel, text: str) -> tuple[list[list[int]], list[Any]]:
    """Contexts of a text with BOS, each run alone and unpadded through transformers."""
    ids = model.tokenizer.encode(text, add_special_tokens=False)
    contexts = [[0, *ids[i : i + N_CTX - 1]] for i in range(0, len(ids), N_CTX - 1)]
    with torch.no_grad():
        out = [model.hf_model(torch.tensor([c]), output_hidden_states=True) for c in contexts]
    return contexts, out


def test_energies_are_the_models_own_loss(full_store: Path, gpt2: LanguageModel) -> None:
    tokens = rows(full_store, "tokens", "token_index")
    contexts = rows(full_store, "contexts", "context_id")
    place = 0
    for text in (text for texts in TEXTS.values() for text in texts):
        by_context, outputs = by_hand(gpt2, text)
        flat = [i for c in by_context for i in c[1:]]
        done = 0
        for ids, out in zip(by_context, outputs, strict=True):
            found = tokens.filter(pl.col("context_id") == contexts["context_id"][place])
            assert found["vocab_id"].to_list() == ids
            done += len(ids) - 1
            targets = ids[1:] + flat[done : done + 1]
            log_p = out.logits[0].double().log_softmax(-1)
            expected = -log_p[torch.arange(len(targets)), torch.tensor(targets)]
            energies = found["energy"].to_list()
            np.testing.assert_allclose(energies[: len(targets)], expected, rtol=1e-4, atol=1e-4)
            assert energies[len(targets) :] == [None] * (len(ids) - len(targets))
            assert found["rank"].null_count() == len(ids) - len(targets)
            entropy = -(log_p.exp() * log_p).sum(-1)
            np.testing.assert_allclose(found["entropy"], entropy, rtol=1e-4, atol=1e-4)
            place += 1
    assert place == len(contexts)


def test_lens_energies_come_from_each_layers_own_stream(
    full_store: Path, gpt2: LanguageModel
) -> None:
    energies = rows(full_store, "energies", "token_index, layer")
    text = TEXTS["animals"][1]
    by_context, outputs = by_hand(gpt2, text)
    text_rows = rows(full_store, "texts", "text_id")
    text_id = text_rows["text_id"][text_rows["text"].to_list().index(text)]
    first = rows(full_store, "contexts", "context_id").filter(pl.col("text_id") == text_id)
    start = first["context_id"][0] * N_CTX
    ids, states = by_context[0], outputs[0].hidden_states
    for layer in (-1, 0, 1):  # transformers has normed the last one already
        expected = lens_energies(
            gpt2.readout, states[layer + 1][0, :-1], torch.tensor(ids[1:])
        ).energy
        found = energies.filter(
            (pl.col("layer") == layer)
            & pl.col("token_index").is_between(start, start + len(ids) - 2)
        )
        np.testing.assert_allclose(found["energy"], expected, rtol=1e-4, atol=1e-4)
    last = energies.filter(pl.col("layer") == 2)
    tokens = rows(full_store, "tokens", "token_index")
    assert last["energy"].equals(tokens["energy"])


def test_codes_are_what_the_sae_encodes_alone(
    full_store: Path, gpt2: LanguageModel, saes_dir: Path
) -> None:
    codes = rows(full_store, "codes", ORDERS["codes"])
    (sae,) = load_saes([str(saes_dir / "resid")])
    assert codes["activation"].is_in([0.0]).sum() == 0
    place = 0
    for text in (text for texts in TEXTS.values() for text in texts):
        by_context, outputs = by_hand(gpt2, text)
        for ids, out in zip(by_context, outputs, strict=True):
            with torch.no_grad():
                expected = sae.module.encode(out.hidden_states[2])[0]
            found = codes.filter(
                (pl.col("sae_id") == "resid")
                & pl.col("token_index").is_between(place * N_CTX, place * N_CTX + len(ids) - 1)
            )
            dense = np.zeros(expected.shape, dtype=np.float32)
            dense[found["token_index"] - place * N_CTX, found["feature_id"]] = found["activation"]
            np.testing.assert_allclose(dense, expected, rtol=1e-4, atol=1e-4)
            place += 1


def test_kept_gradients_are_those_of_the_lens(full_store: Path, gpt2: LanguageModel) -> None:
    gradients = rows(full_store, "energy_gradients", ORDERS["energy_gradients"])
    activations = rows(full_store, "activations", ORDERS["activations"])
    hook = "blocks.1.hook_resid_post"
    tokens = rows(full_store, "tokens", "token_index")
    h = torch.tensor(activations.filter(pl.col("hook_name") == hook)["activation"].to_list())
    stored = gradients.filter(pl.col("hook_name") == hook)["gradient"]
    assert stored.is_null().equals(tokens["energy"].is_null())
    has_next = tokens["energy"].is_not_null()
    following = tokens["vocab_id"].shift(-1)
    same = has_next & (tokens["context_id"].shift(-1) == tokens["context_id"])
    chosen = same.arg_true().to_list()
    x = h[chosen].double().requires_grad_(True)
    norm = gpt2.hf_model.transformer.ln_f
    inner = getattr(norm, "original_component", norm)
    normed = torch.nn.functional.layer_norm(
        x, (x.shape[1],), inner.weight.double(), inner.bias.double(), inner.eps
    )
    loss = torch.nn.functional.cross_entropy(
        normed @ gpt2.readout.W_U.double(),
        torch.tensor(following.gather(chosen).to_list()),
        reduction="sum",
    )
    (expected,) = torch.autograd.grad(loss, x)
    np.testing.assert_allclose(
        np.array(stored.gather(chosen).to_list()), expected, rtol=1e-4, atol=1e-4
    )


def test_special_and_first_tokens_are_flagged_and_masked(full_store: Path) -> None:
    tokens = rows(full_store, "tokens", "token_index")
    first = tokens.filter(pl.col("pos") == 0)
    assert first["is_special"].all() and first["is_masked"].all()
    assert first["vocab_id"].unique().to_list() == [0]  # BOS has the id 0
    others = tokens.filter(pl.col("pos") > 0)
    assert not others["is_special"].any()
    assert others["char_start"].null_count() == 0 and first["char_start"].null_count() == len(first)


@pytest.mark.parametrize("batch_tokens", [1, 40, 100_000])
def test_the_batch_size_changes_no_row(
    full_store: Path, full_config: IngestConfig, tmp_path: Path, batch_tokens: int
) -> None:
    path = tmp_path / "other.lens"
    make_store(path, replace(full_config, batch_tokens=batch_tokens), with_index=False)
    assert_same_rows(full_store, path)


def test_one_shard_or_many_merged_hold_the_same_rows(
    full_store: Path, full_config: IngestConfig, tmp_path: Path, small_shards: None
) -> None:
    parts = [tmp_path / f"part{index}.lens" for index in range(3)]
    prepared = prepare(parts[0], load(full_config))
    for index, path in enumerate(parts):
        prepared = prepare(path, load(full_config))
        ingest(prepared, Part(index, 3), Progress())
    assert prepared.run.n_shards > 3
    added = merge_stores(tmp_path / "all.lens", parts)
    assert added == {prepared.run.run_id: prepared.run.n_shards}
    assert_same_rows(full_store, tmp_path / "all.lens")
    assert verify_store(tmp_path / "all.lens") == []
    assert merge_stores(tmp_path / "all.lens", parts) == {prepared.run.run_id: 0}


def test_an_interrupted_ingest_resumes_to_the_same_bytes(
    full_config: IngestConfig, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole.lens", tmp_path / "cut.lens"
    make_store(whole, full_config, with_index=False)
    write, calls = ShardWriter.write, []

    def interrupted(self: ShardWriter, table: str, rows_: Any) -> None:
        calls.append(table)
        if len(calls) in (9, 31):
            raise KeyboardInterrupt
        write(self, table, rows_)

    monkeypatch.setattr(ShardWriter, "write", interrupted)
    prepared = prepare(cut, load(full_config))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            ingest(prepared, Part(), Progress())
        assert verify_store(cut) == []
    ingest(prepared, Part(), Progress())
    assert_same_rows(whole, cut, exact=True)
    names = [p.relative_to(whole) for p in sorted(whole.rglob("*.parquet"))]
    assert names == [p.relative_to(cut) for p in sorted(cut.rglob("*.parquet"))]
    for name in names:
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name


def test_early_stop_and_no_energies(config: IngestConfig, tmp_path: Path, saes_dir: Path) -> None:
    wanted = replace(config, energies="none", saes=(str(saes_dir / "resid"),))
    loaded = load(wanted)
    assert loaded.instruments.stop_at_layer == 2
    make_store(tmp_path / "x.lens", wanted, with_index=False)
    tokens = rows(tmp_path / "x.lens", "tokens", "token_index")
    assert tokens["energy"].null_count() == len(tokens)
    with_all = tmp_path / "all.lens"
    make_store(with_all, config, with_index=False)
    a = rows(tmp_path / "x.lens", "codes", ORDERS["codes"])
    b = rows(with_all, "codes", ORDERS["codes"]).filter(pl.col("sae_id") == "resid")
    assert a["feature_id"].equals(b["feature_id"])
    np.testing.assert_allclose(a["activation"], b["activation"], rtol=1e-5)


def test_a_model_without_saes_still_gives_energies(config: IngestConfig, tmp_path: Path) -> None:
    make_store(tmp_path / "x.lens", replace(config, saes=(), energies="-1,2"))
    energies = rows(tmp_path / "x.lens", "energies", "token_index, layer")
    assert energies["layer"].unique().sort().to_list() == [-1, 2]


def test_wrong_hooks_and_widths_are_refused(
    config: IngestConfig, tmp_path: Path, gpt2: LanguageModel
) -> None:
    with pytest.raises(ModelError, match="no hook"):
        load(replace(config, hooks=("blocks.9.hook_resid_post",)))
    make_sae("standard", "blocks.1.hook_resid_post", d_in=8, d_sae=16).save_model(
        tmp_path / "narrow"
    )
    loaded = load(replace(config, saes=(str(tmp_path / "narrow"),)))
    with pytest.raises(SaeError, match="width 8"):
        prepare(tmp_path / "x.lens", loaded)
    assert not list((tmp_path / "x.lens/runs").iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energies": "9"}, "names layer 9"),
        ({"energies": "some"}, "takes all, output, none"),
        ({"keep": ("everything",)}, "--keep knows"),
        ({"keep": ("activations",), "saes": ()}, "needs a hook"),
        (
            {"keep": ("gradients",), "hooks": ("blocks.0.attn.hook_z",)},
            r"no lens gradient at 'blocks\.0\.attn\.hook_z'",
        ),
        ({"n_ctx": 17}, "outside 1 to 16"),
        ({"dtype": "int8"}, "unknown number format"),
    ],
)
def test_settings_that_cannot_be(
    config: IngestConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load(replace(config, **changes))


def test_tokens_of_a_text_of_one_token(full_store: Path) -> None:
    text_rows = rows(full_store, "texts", "text_id")
    (text_id,) = text_rows.filter(pl.col("text") == "x")["text_id"].to_list()
    (context_id,) = (
        rows(full_store, "contexts", "context_id")
        .filter(pl.col("text_id") == text_id)["context_id"]
        .to_list()
    )
    tokens = rows(full_store, "tokens", "token_index").filter(pl.col("context_id") == context_id)
    assert tokens["pos"].to_list() == [0, 1]
    assert tokens["energy"].is_null().to_list() == [False, True]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared models")
def test_the_stories_models_mean_energy_is_its_own_loss(tmp_path: Path) -> None:
    source = str(SHARED / "models/stories260K-hf")
    story = tmp_path / "story.txt"
    story.write_text("Once upon a time, there was a little girl named Lily. She loved her dog.")
    wanted = IngestConfig(model=source, texts=str(story))
    make_store(tmp_path / "x.lens", wanted, with_index=False)
    tokens = rows(tmp_path / "x.lens", "tokens", "token_index")
    model = load_model(source)
    ids = torch.tensor([tokens["vocab_id"].to_list()])
    with torch.no_grad():
        loss = model.hf_model(ids, labels=ids).loss.item()
    assert tokens["energy"].mean() == pytest.approx(loss, abs=1e-4)
    assert tokens["token"][1:3].to_list() == ["Once", " upon"]
