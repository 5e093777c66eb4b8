"""Prompts, interventions, attribution, steering and recomputation as a person types them."""

import json
import shutil
from pathlib import Path

import pytest

from energylens.db.store import open_store
from energylens.ingest.on_request import causality
from tests.cli.test_cli import run


@pytest.fixture(scope="module")
def path(rich_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("interact") / "x.lens"
    shutil.copytree(rich_path, copy)
    return copy


@pytest.fixture(scope="module")
def name(path: Path) -> str:
    with open_store(path) as store:
        return store.runs[0].info.run_id


def test_prompt_shows_tokens_energies_features_and_routes(path: Path, name: str) -> None:
    shown = run("prompt", path, name, "the cat", "--top", "1").stdout
    assert "energy" in shown and "routes" in shown and "one:" in shown
    found = json.loads(run("prompt", path, name, "the cat", "--with", "a dog", "--json").stdout)
    assert found["reading"]["tokens"][1]["token"] == "th" and found["other"]["choices"]


def test_prompt_reads_a_file(path: Path, name: str, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("the cat")
    assert "cat" in run("prompt", path, name, f"@{tmp_path}/p.txt").stdout.replace(" ", "")
    assert "cannot be read" in run("prompt", path, name, "@nowhere", code=2).stderr


def test_intervene_shows_the_edit_beside_its_controls(path: Path, name: str) -> None:
    result = run(
        "intervene", path, name, "the cat sat", "--sae", "one", "--feature", "7", "--kind",
        "clamp", "--value", "4",
    )  # fmt: skip
    for word in ("clean", "edited", "flipped", "noise", "like", "features moved most"):
        assert word in result.stdout
    assert "total variation" in result.stdout
    assert "stored as the run intervention-" in result.stderr
    assert "intervention-" in run("info", path).stdout


def test_attribute_shows_three_measures_and_their_agreement(path: Path, name: str) -> None:
    shown = run("attribute", path, name, "the cat sat", "--sae", "two", "--top", "4").stdout
    for word in ("logit of", "gradient", "ablation", "direct", "Spearman", "faithfulness"):
        assert word in shown
    found = run(
        "attribute", path, name, "the cat", "--sae", "one", "--of-sae", "two", "--of-feature",
        "3", "--top", "2", "--json",
    )  # fmt: skip
    assert "feature 3 of two" in json.loads(found.stdout)["metric"]


def test_steer_shows_the_unsteered_text_first(path: Path, name: str) -> None:
    shown = run(
        "steer", path, name, "the cat", "--sae", "two", "--feature", "3", "--strengths", "1,2",
        "--unit", "norm", "--n-tokens", "4",
    ).stdout  # fmt: skip
    assert shown.index("strength 0:") < shown.index("strength 1.000") < shown.index("strength 2")
    wrong = run("steer", path, name, "x", "--sae", "two", "--feature", "3", "--strengths", "much",
                code=2)  # fmt: skip
    assert "--strengths takes numbers" in wrong.stderr


def test_an_edit_acts_where_a_condition_holds(path: Path, name: str) -> None:
    edit = ("--sae", "two", "--feature", "3", "--when")
    changed = ("intervene", path, name, "the cat sat", *edit)
    shown = run(*changed, "one:7>-1", "--kind", "add", "--value", "9", "--no-keep").stdout
    assert "one:7>-1 holds at 100 % of" in shown and "recall 1.00" in shown
    tokens = json.loads(run(*changed, "one:7>-1", "--no-keep", "--json").stdout)["tokens"]
    assert sum(" yes " in line for line in shown.splitlines()) == len(tokens) - 1, "not at BOS"
    written = ("steer", path, name, "the cat", *edit)
    never = run(*written, "one:7>1e9", "--unit", "norm", "--n-tokens", "4", "--json").stdout
    found = json.loads(never)
    assert found["texts"][0]["text"] == found["texts"][1]["text"] == found["texts"][2]["text"]
    assert [text["n_acted"] for text in found["texts"]] == [0, 0, 0]
    assert found["when"]["condition"] == "one:7>1000000000" and found["when"]["share"] == 0
    assert "changed at 0 of" in run(*written, "7>1e9", "--unit", "norm", "--n-tokens", "4").stdout
    for wrong, words in (
        ("sevens", "'sevens' is no condition"),
        ("one:48>1", "a feature that does not exist: 'one' has features 0 to 47, not 48"),
        ("c_probe", "has no category 'c'; it has a, b"),
        ("one:7>nan", "compares with a number, not nan"),
    ):
        assert words in run(*written, wrong, code=2).stderr


def test_one_of_several_saes_must_be_named(path: Path, name: str) -> None:
    result = run("intervene", path, name, "the", "--feature", "1", code=2)
    assert "say which sae: sae=mlp, sae=one, sae=two" in result.stderr


def test_causality_compares_predictions_with_measurements(
    path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("causality", path, name, "two", "--features", "2", "--contexts", "2")
    said = run(*asked, code=2).stderr
    assert "no feature of 'two' is active on 20 tokens with an EFAS of q < 0.05" in said
    monkeypatch.setattr(causality, "SIGNIFICANT", 0.5)
    shown = run(*asked).stdout
    effects, agreement = shown.split("measured against the trapezoid")
    assert "gauss_newton" in effects and "trapezoid" in effects
    assert "relative error" in agreement and agreement.count("rate-matched") == 2  # lens and total


def test_recompute_adds_vectors_and_says_what_to_give(path: Path, name: str) -> None:
    hook = "blocks.0.hook_resid_post"
    result = run("recompute", path, name, "--keep", "activations", "--hook", hook)
    assert "1 shards were missing" in result.stderr
    again = run("recompute", path, name, "--keep", "activations", "--hook", hook)
    assert "there already" in again.stderr
    assert "say what to add" in run("recompute", path, name, code=2).stderr
    wrong = run("recompute", path, name, "--keep", "activations", "--hook", "blocks.0.nope", code=2)
    assert "has no hook" in wrong.stderr


def test_a_run_that_is_not_there_is_named(path: Path) -> None:
    assert "has no run 'none'" in run("prompt", path, "none", "x", code=2).stderr
