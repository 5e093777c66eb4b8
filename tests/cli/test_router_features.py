"""`energylens train mesanet --router-features`: which features a router is shown, and when not."""

import json
import random
from pathlib import Path

import pytest
import torch

from energylens.db.store import open_store
from energylens.ingest.on_request.router_features import (
    KnownFeature,
    known_features,
    rate_matched,
    significant_features,
)
from energylens.ingest.plan import IngestConfig
from energylens.lens.models import load_model
from tests.cli.test_cli import run
from tests.conftest import TEXTS, make_mesanet, make_sae, make_store

WORDS = [word for texts in TEXTS.values() for text in texts for word in text.split()]


def write_texts(path: Path, seed: int, n: int) -> Path:
    drawn = random.Random(seed)
    rows = [{"text": " ".join(drawn.choices(WORDS, k=20))} for _ in range(n)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, mesanet_dir: Path) -> Path:
    """A store of a MesaNet's run over 60 texts, and 60 others to train on."""
    root = tmp_path_factory.mktemp("shown")
    for name, kind, hook in (
        ("after1", "standard", "blocks.1.hook_resid_post"),
        ("mlp", "standard", "blocks.1.hook_mlp_out"),
        ("top", "topk", "blocks.0.hook_resid_post"),
    ):
        make_sae(kind, hook, d_sae=48).save_model(root / "saes" / name)
    texts, _ = write_texts(root / "run.jsonl", 0, 60), write_texts(root / "train.jsonl", 1, 60)
    config = IngestConfig(
        model=str(mesanet_dir), texts=str(texts), saes=(str(root / "saes"),), accept_gate=True
    )
    make_store(root / "x.lens", config)
    return root


def test_a_router_is_shown_the_surest_features_and_learns_from_them(
    place: Path, mesanet_dir: Path
) -> None:
    asked = [
        "train", "mesanet", place / "out", "--from", mesanet_dir, "--texts", place / "train.jsonl",
        "--n-ctx", "16", "--n-tokens", "1280", "--router-features", place / "x.lens",
        "--sae", "after1", "--top", "3",
    ]  # fmt: skip
    said = run(*asked).stderr
    assert "the router of block 2 sees 3 features of 'after1'" in said
    assert "contaminated" not in said
    model = load_model(str(place / "out")).hf_model
    assert model.config.router_features_layer == 2 and not model.config.router_features_shuffled
    features = model.blocks[2].anchors.features
    assert features.weight.shape == (4, 3) and features.weight.abs().sum() > 0
    with open_store(place / "x.lens") as store:
        rows = store.cursor().sql(
            "SELECT feature_id FROM efas WHERE variant = 'lens' AND sae_id = 'after1' AND q < .05 "
            "ORDER BY q, abs(within) DESC, feature_id"
        ).fetchall()  # fmt: skip
    assert len(rows) > 3
    own = make_sae("standard", "blocks.1.hook_resid_post", d_sae=48)
    chosen = [feature for (feature,) in rows[:3]]
    torch.testing.assert_close(features.encoder, own.W_enc.T[chosen], rtol=1e-2, atol=1e-2)
    other = run(*asked, "--shuffled-features", code=1).stderr
    assert "router_features" in other and "other settings" in other


def test_texts_that_are_trained_on_are_told(place: Path, mesanet_dir: Path) -> None:
    model = load_model(str(mesanet_dir))
    with open_store(place / "x.lens") as store:
        run_id = store.runs[0].info.run_id
    some = place / "some.jsonl"
    some.write_text("\n".join((place / "run.jsonl").read_text().splitlines()[:7]))
    found = significant_features(place / "x.lens", run_id, "after1", model, 2, str(some))
    assert found.contaminated == 7
    out = place / "shuffled"
    said = run(
        "train", "mesanet", out, "--from", mesanet_dir, "--texts", place / "run.jsonl",
        "--n-ctx", "16", "--n-tokens", "256", "--router-features", place / "x.lens",
        "--sae", "after1", "--top", "2", "--shuffled-features",
    ).stderr  # fmt: skip
    assert "sees another text's 2 features" in said
    assert f"contaminated: 60 texts of the run '{run_id}'" in said
    assert load_model(str(out)).hf_model.config.router_features_shuffled


def test_controls_are_active_as_often_and_have_no_significant_efas(place: Path) -> None:
    known = [
        KnownFeature(feature, n, 0.1, q, 1.0)
        for feature, (n, q) in enumerate([(100, 0.001), (90, 0.01), (95, 0.5), (99, 0.2), (9, 0.9)])
    ]
    found = rate_matched(known, known[:2])
    assert [one.feature_id for one in found] == [3, 2]
    assert len(rate_matched(known[:3], known[:2])) == 1
    with open_store(place / "x.lens") as store:
        rows = known_features(store, store.runs[0].info.run_id, "after1")
    assert [row.q for row in rows] == sorted(row.q for row in rows)
    assert all(row.mean_activation > 0 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sae", "after1"], "give the store as --router-features"),
        (["--top", "3"], "give the store as --router-features"),
        (["--router-features", "STORE"], "give that model as --from"),
        (["--router-features", "STORE", "--from", "OTHER"], "is not of"),
        (["--router-features", "STORE", "--from", "OWN"], "sae=after1, sae=mlp"),
        (["--router-features", "STORE", "--from", "OWN", "--sae", "nix"], "no SAE 'nix'"),
        (["--router-features", "STORE", "--from", "OWN", "--sae", "mlp"], "reads 'blocks.1.hook_m"),
        (["--router-features", "STORE", "--from", "OWN", "--sae", "top", "--top", "1"], "topk SAE"),
        (
            ["--router-features", "STORE", "--from", "OWN", "--sae", "after1", "--top", "49"],
            "fewer than the 49 asked for",
        ),
    ],
)
def test_what_cannot_be_shown_is_said(
    place: Path, mesanet_dir: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    other = tmp_path / "other"
    if "OTHER" in arguments:
        load = load_model(str(mesanet_dir))
        make_mesanet(n_anchors=5).save_pretrained(other)
        load.tokenizer.save_pretrained(other)
    given = {"STORE": place / "x.lens", "OWN": mesanet_dir, "OTHER": other}
    words = [given.get(word, word) for word in arguments]
    texts = ("--texts", place / "train.jsonl", "--n-ctx", "16", "--n-tokens", "1280")
    assert said in run("train", "mesanet", tmp_path / "m", *texts, *words, code=2).stderr
