"""`energylens saes compare` as a person types it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from energylens.lens.directions import mean_max_cosine
from energylens.lens.saes import load_saes
from tests.cli.test_cli import run
from tests.conftest import make_sae

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("two")
    folders = []
    for name, kind, d_sae in (("a", "standard", 48), ("b", "topk", 40)):
        folders.append(root / name / HOOK)
        make_sae(kind, HOOK, d_sae=d_sae).save_model(folders[-1])
    return folders


def test_saes_of_one_hook_are_put_into_one_table(
    two: list[Path], gpt2_dir: Path, texts_dir: Path, tmp_path: Path
) -> None:
    words = ["--model", gpt2_dir, "--texts", texts_dir]
    said = run("saes", "compare", *two, *words, "--format", "json").stdout
    rows = [json.loads(line) for line in said.splitlines()]
    assert [row["architecture"] for row in rows] == ["standard", "topk"]
    assert len({row["sae"] for row in rows}) == 2, "SAEs of one name are told apart"
    store = tmp_path / "x.lens"
    run("ingest", store, *words, "--sae", two[0], "--sae", two[1], "--accept-gate")
    made = json.loads(run("info", store, "--json").stdout)["info"]
    for row, sae in zip(rows, made["saes"], strict=True):
        assert (row["sae"], row["n_dead"], row["n_dense"]) == (
            sae["sae_id"], sae["n_dead"], sae["n_dense"],
        )  # fmt: skip
        assert row["fvu"] == pytest.approx(sae["fvu"], abs=1e-4)
        assert row["l0"] == pytest.approx(sae["l0"], abs=1e-2)
        found = run(
            "sql", store, _SPECIALISTS.format(made["run_id"], sae["sae_id"]), "--format", "json"
        )
        counts = json.loads(found.stdout)
        assert (row["n_specialists"], row["n_categories"]) == (counts["n"], counts["c"])
    one, other = (load_saes([str(folder)])[0].W_dec.numpy() for folder in two)
    unit = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in (one, other)]
    cosines = unit[0] @ unit[1].T
    assert rows[0]["to_2"] == pytest.approx(cosines.max(1).mean(), abs=1e-3)
    assert rows[1]["to_1"] == pytest.approx(cosines.max(0).mean(), abs=1e-3)
    assert rows[0]["to_1"] == rows[1]["to_2"] == 1


_SPECIALISTS = (
    "SELECT count(*) AS n, count(DISTINCT category) AS c FROM specialists "
    "WHERE run_id = '{}' AND sae_id = '{}' AND score > 0 AND q < 0.05"
)


def test_a_subset_of_directions_has_cosine_one_that_way_round_only() -> None:
    directions = torch.eye(6)
    assert mean_max_cosine(directions[:2] * 3, directions) == 1
    assert mean_max_cosine(directions, directions[:2]) == pytest.approx(2 / 6)


def test_what_cannot_be_compared_is_a_sentence(
    two: list[Path], saes_dir: Path, texts_dir: Path, tmp_path: Path
) -> None:
    words = ["--model", "builtin:llama", "--texts", texts_dir]
    assert "two SAEs or more" in run("saes", "compare", two[0], *words, code=2).stderr
    mixed = run("saes", "compare", saes_dir, *words, code=2).stderr
    assert "these have blocks.1.hook_resid_post, blocks.2.hook_mlp_out" in mixed
    nowhere = ["--model", "/no/model", "--texts", texts_dir]  # said before a model is looked for
    twice = run("saes", "compare", two[0], two[0], *nowhere, code=2).stderr
    assert f"the SAE '{HOOK}' is given twice" in twice and "leave one out" in twice
    make_sae("standard", HOOK, d_in=64).save_model(tmp_path / "wide")
    wide = run("saes", "compare", two[0], tmp_path / "wide", *nowhere, code=2).stderr
    assert "reads 24 numbers" in wide and "wide' 64; leave one out" in wide
    foreign = run("saes", "compare", *two, *words, code=2).stderr
    assert "reads vectors of width 24, but the model's" in foreign


def test_a_pursuit_is_ingested_beside_the_saes_own_codes_and_opened_again(
    two: list[Path], gpt2_dir: Path, texts_dir: Path, tmp_path: Path
) -> None:
    store, words = tmp_path / "x.lens", ["--model", gpt2_dir, "--texts", texts_dir]
    words += ["--sae", two[0], "--coder", "omp:4", "--accept-gate"]
    run("ingest", store, *words)
    saes = json.loads(run("info", store, "--json").stdout)["info"]["saes"]
    assert [sae["architecture"] for sae in saes] == ["standard", "omp:4"]
    assert saes[1]["l0"] == pytest.approx(4) and saes[0]["l0"] > 8
    counts = f"SELECT count(*) AS n FROM codes WHERE sae_id = '{saes[1]['sae_id']}'"
    most = f"SELECT max(n) AS n FROM ({counts} GROUP BY token_index)"
    found = run("sql", store, most, "--format", "json")
    assert json.loads(found.stdout)["n"] == 4
    run("prompt", store, "the cat sat")  # which loads the run's SAEs, and refuses others
    assert "--coder takes omp:K" in run("ingest", store, *words[:-3], "--coder", "x", code=2).stderr
    assert "give --sae" in run("ingest", store, *words[:4], "--coder", "omp:4", code=2).stderr
