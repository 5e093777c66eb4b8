"""The command as a person types it: output, exit codes, and messages without a traceback."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from energylens.builtin import builtin_path
from energylens.cli import app
from energylens.cli.programs import DEMO_TEXTS
from energylens.ingest.plan import IngestConfig
from tests.conftest import make_sae

runner = CliRunner()


def run(*arguments: object, code: int = 0, stdin: str | None = None) -> Any:
    result = runner.invoke(app, [str(a) for a in arguments], input=stdin)
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    assert "Traceback" not in result.stderr
    return result


def test_help_lists_every_command_with_its_purpose() -> None:
    shown = run("--help").stdout
    for command in (
        "demo", "ingest", "index", "info", "verify", "merge", "tui", "keys", "sql", "queries",
        "query", "doctor", "train", "prompt", "intervene", "attribute", "steer", "causality",
        "recompute", "repair", "worker", "compare", "efas",
        "explain", "routing", "heads", "saes", "search", "sources", "export", "import", "page",
        "report", "presets", "mcp",
    ):  # fmt: skip
        assert f"  {command}" in shown
        assert "Usage" in run(command, "--help").stdout


def test_keys_are_listed_with_their_ids() -> None:
    shown = run("keys").stdout
    for said in ("features.filter", "slash", "Filter the list", "app.quit", "feature.star"):
        assert said in shown


def test_version() -> None:
    assert run("--version").stdout.startswith("energylens 0.")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, config: IngestConfig) -> Path:
    path = tmp_path_factory.mktemp("cli") / "x.lens"
    result = run(
        "ingest", path, "--model", config.model, "--texts", config.texts, "--sae", config.saes[0],
        "--run-id", "first",
    )  # fmt: skip
    assert "gate resid: fvu" in result.stderr and "100 %" in result.stderr
    assert result.stdout == ""
    return path


def test_ingest_again_has_nothing_left_to_do(made: Path, config: IngestConfig) -> None:
    result = run(
        "ingest", made, "--model", config.model, "--texts", config.texts, "--sae", config.saes[0],
        "--run-id", "first", "--no-index", "--json",
    )  # fmt: skip
    messages = [json.loads(line) for line in result.stderr.splitlines()]
    assert {"message": "1 of 1 shards are complete; going on"} in messages


def test_the_same_name_for_another_run_is_refused(made: Path, config: IngestConfig) -> None:
    result = run(
        "ingest", made, "--model", config.model, "--texts", config.texts, "--run-id", "first",
        code=1,
    )  # fmt: skip
    assert "made from other models, SAEs, texts or settings" in result.stderr


def test_json_progress_is_one_object_a_line(tmp_path: Path, config: IngestConfig) -> None:
    result = run(
        "ingest", tmp_path / "x.lens", "--model", config.model, "--texts", config.texts, "--json"
    )
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    last = [line for line in lines if line.get("phase") == "ingest"][-1]
    assert last["done"] == last["total"] > 0 and last["unit"] == "tokens"


def test_estimate_stores_nothing(tmp_path: Path, config: IngestConfig) -> None:
    arguments = [
        "ingest", tmp_path / "x.lens", "--model", config.model, "--texts", config.texts,
        "--sae", config.saes[0], "--estimate",
    ]  # fmt: skip
    shown = run(*arguments).stdout
    assert "6 texts" in shown and "nothing was stored" in shown
    found = json.loads(run(*arguments, "--json").stdout)
    assert found["n_tokens"] > 100 and found["bytes_total"] > 1000 and found["peak_memory"] > 1e7
    parts = ("plan_seconds", "gate_seconds", "shard_seconds", "index_seconds")
    assert all(found[part] > 0 for part in parts)
    assert found["seconds"] == pytest.approx(sum(found[part] for part in parts))
    assert found["shard_seconds"] == pytest.approx(found["n_tokens"] / found["tokens_per_second"])
    assert not (tmp_path / "x.lens").exists()


def test_info_says_what_is_there(made: Path, tmp_path: Path) -> None:
    shown = run("info", made).stdout
    assert "first" in shown and "index fresh" in shown and "resid: standard 24 x 48" in shown
    (line,) = run("info", made, "--json").stdout.splitlines()
    assert json.loads(line)["info"]["run_id"] == "first"
    assert "rank INTEGER: tokens likelier" in run("info", made, "--schema").stdout
    assert "there is no store" in run("info", tmp_path / "none", code=1).stderr


def test_verify_exits_one_on_damage(made: Path, tmp_path: Path) -> None:
    import shutil

    assert "sound" in run("verify", made).stderr
    copy = Path(shutil.copytree(made, tmp_path / "copy.lens"))
    next(copy.rglob("tokens.parquet")).write_bytes(b"gone")
    assert "checksum" in run("verify", copy, code=1).stdout
    problem = json.loads(run("verify", copy, "--json", code=1).stdout.splitlines()[0])
    assert problem["remedy"].startswith("delete")


def test_sql_in_every_format(made: Path) -> None:
    text = (
        "SELECT category, list(n_tokens ORDER BY text_id) AS n FROM texts GROUP BY ALL ORDER BY 1"
    )
    assert "animals" in run("sql", made, text).stdout
    assert run("sql", made, text, "-f", "csv").stdout.splitlines()[0] == "category,n"
    rows = [json.loads(line) for line in run("sql", made, text, "-f", "json").stdout.splitlines()]
    assert [row["category"] for row in rows] == ["animals", "numbers"]
    assert run("sql", made, text, "-f", "markdown").stdout.startswith("| category")
    parquet = run("sql", made, text, "-f", "parquet").stdout_bytes
    assert pl.read_parquet(io.BytesIO(parquet))["category"].to_list() == ["animals", "numbers"]
    assert "animals" in run("sql", made, stdin=text).stdout


def test_sql_says_when_it_cut(made: Path) -> None:
    result = run("sql", made, "FROM tokens SELECT pos", "--limit", "3", "-f", "csv")
    assert len(result.stdout.splitlines()) == 4
    assert "cut at 3 rows" in result.stderr
    everything = run("sql", made, "FROM tokens SELECT pos", "--limit", "0", "-f", "csv")
    assert len(everything.stdout.splitlines()) > 100 and "cut" not in everything.stderr


def test_sql_that_writes_or_is_wrong_exits_two(made: Path) -> None:
    assert "read with SELECT" in run("sql", made, "DROP VIEW tokens", code=2).stderr
    assert "nothing_like_it" in run("sql", made, "SELECT nothing_like_it FROM codes", code=2).stderr
    assert "--format takes" in run("sql", made, "SELECT 1", "-f", "xml", code=2).stderr


def test_tokens_with_line_breaks_stay_on_their_line(made: Path) -> None:
    shown = run("sql", made, r"SELECT E'a\nb\x1b[31m' AS t").stdout
    assert "a⏎b␛[31m" in shown


def test_queries_are_listed_and_shown(made: Path) -> None:
    listed = run("queries", made).stdout
    assert "best_features(run, sae, with_dense := true, k := 20)" in listed
    assert "feature_codes\n    The table codes in feature order" in listed
    assert (
        "CREATE OR REPLACE MACRO best_features" in run("queries", "--name", "best_features").stdout
    )
    assert "there is no query" in run("queries", "--name", "x", code=2).stderr


def test_query_fills_in_what_there_is_one_of(made: Path) -> None:
    assert "say which sae: sae=mlp, sae=resid" in run("query", made, "best_features", code=2).stderr
    shown = run("query", made, "best_features", "sae=resid", "k=2", "-f", "csv").stdout
    assert len(shown.splitlines()) == 3
    assert "must be given" in run("query", made, "top_activations", "sae=mlp", code=2).stderr
    assert "key=value" in run("query", made, "best_features", "resid", code=2).stderr
    assert "INT64" in run("query", made, "best_features", "sae=mlp", "k=x", code=2).stderr
    assert "no run 'x'" in run("query", made, "best_features", "run=x", code=2).stderr


def test_merge_of_two_halves(tmp_path: Path, config: IngestConfig, small_shards: None) -> None:
    for part in (1, 2):
        made = run(
            "ingest", tmp_path / f"{part}.lens", "--model", config.model, "--texts", config.texts,
            "--shard", f"{part}/2",
        )  # fmt: skip
        assert f"part {part}/2 is done; once all are: energylens merge" in made.stderr
    result = run("merge", tmp_path / "all.lens", tmp_path / "1.lens", tmp_path / "2.lens")
    assert "shards added" in result.stderr
    assert "index fresh" in run("info", tmp_path / "all.lens").stdout
    assert "sound" in run("verify", tmp_path / "all.lens").stderr


def test_the_gate_exits_three(tmp_path: Path, config: IngestConfig) -> None:
    sae = make_sae("standard", "blocks.1.hook_resid_post", d_sae=48)
    with torch.no_grad():
        sae.W_dec *= 3
    sae.save_model(tmp_path / "scaled")
    arguments = [
        "ingest", tmp_path / "x.lens", "--model", config.model, "--texts", config.texts,
        "--sae", tmp_path / "scaled",
    ]  # fmt: skip
    assert "the gate refuses scaled" in run(*arguments, code=3).stderr
    assert "overridden" in run(*arguments, "--accept-gate").stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--model", "./nowhere"], "no directory with a Hugging Face model"),
        (["--texts", "./nowhere"], "no texts at"),
        (["--sae", "./nowhere"], "no SAE at"),
        (["--hook", "blocks.77.hook_resid_post"], "no hook"),
        (["--shard", "9/2"], "--shard takes I/N"),
        (["--run-id", "../up"], "--run-id takes letters"),
        (["--keep", "nothing"], "--keep knows"),
        (["--energies", "x"], "--energies takes"),
        (["--batch-tokens", "0"], "Invalid value for '--batch-tokens'"),
        (["--nonsense"], "No such option"),
    ],
)
def test_wrong_use_exits_two(
    tmp_path: Path, config: IngestConfig, changes: list[str], message: str
) -> None:
    base = ["--model", config.model, "--texts", config.texts]
    result = run("ingest", tmp_path / "x.lens", *base, *changes, code=2)
    assert message in result.stderr
    assert not list(tmp_path.rglob("run.json"))


def test_the_tui_needs_a_terminal(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "needs a terminal" in run("tui", made, code=2).stderr
    monkeypatch.setenv("TERM", "dumb")
    assert "TERM=dumb has no screen" in run("tui", made, code=2).stderr


def test_unexpected_errors_have_a_message_and_debug_a_traceback(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("energylens.queries.overview.run_summaries", broken)
    assert "unexpected ZeroDivisionError: surprise" in run("info", made, code=1).stderr
    result = runner.invoke(app, ["--debug", "info", str(made)])
    assert result.exit_code == 1 and "Traceback" in result.stderr


@pytest.mark.parametrize("n_texts", [5, pytest.param(None, marks=pytest.mark.slow)])
def test_the_demo_prints_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_texts: int | None
) -> None:
    """On a few texts of each category, and on all of them."""
    if n_texts is not None:
        few = tmp_path / "few"
        few.mkdir()
        for file in builtin_path("texts", DEMO_TEXTS).glob("*.jsonl"):
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            (few / file.name).write_text("".join(lines[:n_texts]), encoding="utf-8")
        monkeypatch.setattr("energylens.cli.programs.DEMO_TEXTS", str(few))
        monkeypatch.setattr("energylens.ingest.index.routing.N_DRAWS", 19)
        monkeypatch.setattr("energylens.ingest.gate_sample.SAMPLE_TOKENS", 2_048)
        monkeypatch.setattr("energylens.ingest.gate_sample.CE_TOKENS", 512)
    result = run("demo", "--store", tmp_path / "demo.lens", "--no-tui")
    assert result.stderr.count("passed") == 7, "seven bundled SAEs pass the gate"
    for said in (
        "by category", "conversational", "Mean energy under the logit lens",
        "Most selective features of blocks.4.hook_resid_post", "energylens tui",
        "Routers: load", "take most beyond", "EFAS with the gradient 'calibration'", "always",
    ):  # fmt: skip
        assert said in result.stdout
    rows = [json.loads(line) for line in run(
        "query", tmp_path / "demo.lens", "energy_by_layer", "-f", "json"
    ).stdout.splitlines()]  # fmt: skip
    overall = [row["mean_energy"] for row in rows if row["is_all"]]
    assert overall == sorted(overall, reverse=True), "each layer of the model knows more"
    assert overall[-1] < 4.5
    assert "sound" in run("verify", tmp_path / "demo.lens").stderr


def test_two_runs_are_compared(rich_path: Path) -> None:
    run_id = json.loads(run("info", rich_path, "--json").stdout.splitlines()[0])["info"]["run_id"]
    found = run("compare", rich_path, run_id, run_id)
    assert "compared text by text" in found.stderr
    for title in ("energies, nats a token", "SAEs at the same place", "best specialists"):
        assert title in found.stdout
    rows = [
        json.loads(line)
        for line in run("compare", rich_path, run_id, run_id, "-f", "json").stdout.splitlines()
    ]
    assert {row["table"] for row in rows} == {
        "energies", "SAEs at the same place", "features that differ most", "best specialists",
    }  # fmt: skip
    assert "several tables" in run("compare", rich_path, run_id, run_id, "-f", "csv", code=2).stderr
    assert "has no run 'x'" in run("compare", rich_path, run_id, "x", code=2).stderr


def test_explanations_are_taken_in(made: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(made, tmp_path / "explained.lens"))
    file = tmp_path / "own.csv"
    file.write_text("feature_id,description\n3,opening brackets\n", encoding="utf-8")
    done = run("explain", store, "first", file, "--sae", "resid")
    assert "1 explanations of 1 features of 'resid'" in done.stderr
    told = json.loads(
        run("explain", store, "first", file, "--sae", "mlp", "--replace", "--json").stdout
    )
    assert told["n_features"] == 1
    assert "opening brackets" in run("query", store, "explained_features", "pattern=BRACKET").stdout
    with duckdb.connect(store / "catalog.duckdb", read_only=True) as con:
        labels = con.execute("SELECT feature_id FROM explanations WHERE is_label").fetchall()
    assert labels == [(3,), (3,)]
    assert "say with --sae" in run("explain", store, "first", file, code=2).stderr
    assert "no SAE 'x'" in run("explain", store, "first", file, "--sae", "x", code=2).stderr
    assert "no run 'x'" in run("explain", store, "x", file, code=2).stderr


def test_efas_beyond_the_ingest(rich_path: Path, tmp_path: Path) -> None:
    store = tmp_path / "copy.lens"
    shutil.copytree(rich_path, store)
    run_id = json.loads(run("info", store, "--json").stdout.splitlines()[0])["info"]["run_id"]
    asked = run(
        "efas", store, run_id, "one", "--feature", 7, "--feature", 8, "--draws", 19, "-f", "json"
    )
    rows = [json.loads(line) for line in asked.stdout.splitlines()]
    assert [row["feature_id"] for row in rows] == [7, 8]
    assert set(rows[0]) == {"feature_id", "spearman", "p_text", "n_texts_moved", "p_shift"}
    added = run("efas", store, run_id, "one", "--variant", "calibration")
    assert "n_discoveries" in added.stdout
    assert "sound" in run("verify", store).stderr
    assert "not 'wrong'" in run("efas", store, run_id, "one", "--variant", "wrong", code=2).stderr


def test_the_index_takes_any_number_of_flips(rich_path: Path, tmp_path: Path) -> None:
    store = tmp_path / "copy.lens"
    shutil.copytree(rich_path, store)
    run_id = json.loads(run("info", store, "--json").stdout.splitlines()[0])["info"]["run_id"]
    run("index", store, "--run-id", run_id, "--flips", 99)
    smallest = "SELECT min(p_flip) AS p FROM efas"
    found = json.loads(run("sql", store, smallest, "-f", "json").stdout)["p"]
    assert found >= 0.01 and abs(found * 100 - round(found * 100)) < 1e-9


def test_every_analysis_answers_through_the_command(rich_path: Path) -> None:
    run_id = json.loads(run("info", rich_path, "--json").stdout.splitlines()[0])["info"]["run_id"]
    for asked in (
        ["specialist_matrix"], ["efas_ranking", "sae=one"], ["settling_summary"],
        ["coactivation_partners", "sae=one", "feature=7"], ["routing_paths"],
        ["feature_evolution", "sae=one", "feature=7"], ["routing_health"],
    ):  # fmt: skip
        name, *values = asked
        found = run("query", rich_path, name, f"run={run_id}", *values, "-f", "json")
        assert json.loads(found.stdout.splitlines()[0]), name


def test_the_doctor_runs_the_bundled_model() -> None:
    assert "lens and model agree" in run("doctor").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo", "--no-tui"),
        ("ingest", "x.lens", "--model", "m", "--texts", "t"),
        ("train", "lm", "x", "--texts", "t"),
        ("train", "sae", "x", "--model", "m", "--texts", "t", "--hook", "h"),
    ],
)
def test_a_missing_extra_is_named(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("energylens.cli.extras.find_spec", lambda name: None)
    said = run(*arguments, code=2).stderr
    assert "this needs the extra 'models'" in said and "pip install " in said and "'torch>=" in said


@pytest.mark.parametrize(
    "words",
    [
        {"_ENERGYLENS_COMPLETE": "complete_bash", "COMP_WORDS": "energylens ex", "COMP_CWORD": "1"},
        {"_ENERGYLENS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "energylens ex"},
        {
            "_ENERGYLENS_COMPLETE": "complete_fish",
            "_TYPER_COMPLETE_ARGS": "energylens ex",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
    ],
    ids=["bash", "zsh", "fish"],
)
def test_shells_complete_commands(words: dict[str, str]) -> None:
    command = [sys.executable, "-m", "energylens"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **words})
    assert "explain" in done.stdout and "export" in done.stdout and "tui" not in done.stdout
