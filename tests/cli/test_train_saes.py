"""`energylens train sae` as a person types it: what it makes, what it says, what it refuses."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from energylens.db.claim import claim
from energylens.ingest.plan import IngestConfig
from tests.cli.test_cli import app, run, runner
from tests.conftest import make_store

HOOK = "blocks.1.hook_resid_post"
SIZES = [
    "--hook", HOOK, "--d-sae", "32", "--batch", "64", "--n-tokens", "12000", "--lr", "0.005",
    "--dtype", "float32",  # the hash is of the weights in the format they are read in
]  # fmt: skip


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "t.jsonl"
    rows = ({"text": f"the cat number {n} sat on mat {n * n}"} for n in range(200))
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture(scope="module")
def source(gpt2_dir: Path, texts: Path) -> list[Any]:
    return ["--model", gpt2_dir, "--texts", texts, "--n-ctx", "16"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, source: list[Any], texts: Path) -> Path:
    """A sweep of two, with the gate at its end."""
    out = tmp_path_factory.mktemp("out") / "saes"
    result = run(
        "train", "sae", out, *source, *SIZES, "--sweep", "k=8,16", "--heldout", texts, "--json"
    )
    (out.parent / "stdout").write_text(result.stdout)
    (out.parent / "stderr").write_text(result.stderr)
    return out


def test_a_sweep_is_measured_by_the_gate_and_ingested(
    finished: Path, gpt2_dir: Path, texts: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (finished.parent / "stdout").read_text().splitlines()]
    assert [row["sae"] for row in rows] == [f"{HOOK},k=8", f"{HOOK},k=16"]
    assert [row["gate"] for row in rows] == ["passed", "passed"]
    assert rows[0]["l0"] == pytest.approx(8, abs=0.05) and all(r["is_on_frontier"] for r in rows)
    store = tmp_path / "x.lens"
    run("ingest", store, "--model", gpt2_dir, "--sae", finished, "--texts", texts)
    said = json.loads(run("info", store, "--json").stdout)
    stored = {sae["sae_id"]: sae for sae in said["info"]["saes"]}
    assert len(stored) == len(rows)
    for row in rows:
        sae = stored[row["sae"]]
        assert sae["fvu"] == pytest.approx(row["heldout_fvu"], abs=1e-4)
        metadata = json.loads((finished / row["sae"] / "cfg.json").read_text())["metadata"]
        assert metadata["heldout"]["heldout_fvu"] == pytest.approx(sae["fvu"])
        assert metadata["model_sha256"] == said["info"]["model_sha256"]
        assert metadata["context_size"] == 16 and metadata["declared_l0"] in (8, 16)


def test_it_says_how_it_goes_from_the_first_moment(finished: Path) -> None:
    lines = (finished.parent / "stderr").read_text().splitlines()
    said = [json.loads(line) for line in lines]
    assert said[0] == {"message": "loading what trains SAEs"}
    phases = [line["phase"] for line in said if "phase" in line]
    assert phases.index("tokenizing") < phases.index("first activations")
    assert all("per_second" in line for line in said if "phase" in line)
    last = next(line for line in reversed(said) if "step" in line)
    assert last["step"] == last["n_steps"] == 187 and last["seconds_to_go"] == 0
    assert {"loss", "parts", "l0", "fvu", "dead_share"} <= last["figures"][0].keys()


def test_figures_are_kept_every_fifty_steps(finished: Path) -> None:
    rows = pl.read_parquet(finished / "metrics.parquet")
    assert rows.columns == ["step", "n_tokens", "sae", "metric", "value"]
    assert rows["step"].unique().sort().to_list() == [50, 100, 150, 187]
    assert set(rows["metric"]) >= {"loss", "mse_loss", "l0", "fvu", "dead_share"}
    assert rows["sae"].n_unique() == 2
    assert not (finished / "checkpoint.safetensors").exists()


def test_a_finished_training_is_not_done_again_and_not_overwritten(
    finished: Path, source: list[Any], tmp_path: Path
) -> None:
    def files() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in finished.rglob("*") if p.is_file()}

    before = files()
    again = run("train", "sae", finished, *source, *SIZES, "--sweep", "k=8,16")
    assert "is finished already; nothing is done" in again.stderr
    other = run("train", "sae", finished, *source, *SIZES, "--seed", "3", code=1)
    assert "with other settings" in other.stderr and "seed 0, not 3" in other.stderr
    assert files() == before
    (tmp_path / "mine.txt").write_text("mine")
    foreign = run("train", "sae", tmp_path, *source, *SIZES, code=2)
    assert "holds other files (mine.txt)" in foreign.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_two_trainings_into_one_directory_are_refused(source: list[Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with claim(out / ".lock", "it", "wait"):
        said = run("train", "sae", out, *source, *SIZES, code=1).stderr
    assert "is being written by process" in said and "give another directory" in said


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, source: list[Any]) -> bytes:
    out = tmp_path_factory.mktemp("whole") / "saes"
    run("train", "sae", out, *source, *SIZES, "--k", "4")
    return (out / HOOK / "sae_weights.safetensors").read_bytes()


def test_a_command_that_was_stopped_goes_on_to_the_same_weights(
    source: list[Any], whole: bytes, tmp_path: Path
) -> None:
    words, out = [*source, *SIZES, "--k", "4"], tmp_path / "cut"
    script = (
        "import os\n"
        "from energylens.training.saes import loop\n"
        "loop._SAVE_EVERY = 40\n"
        "take = loop._Training._take\n"
        "def until_110(self):\n"
        "    take(self)\n"
        f"    if self.step == 110: os.kill(os.getpid(), {int(signal.SIGINT)})\n"
        "loop._Training._take = until_110\n"
        "from energylens.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "train", "sae", str(out), *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert (out / "checkpoint.safetensors").exists() and not (out / HOOK).exists()
    kept = {path.name: path.read_bytes() for path in out.iterdir()}
    for option, value, said in (
        ("--lr", "0.01", "learning_rate 0.005, not 0.01"),
        ("--d-sae", "16", "d_sae 32, not 16"),
    ):
        assert said in run("train", "sae", out, *words, option, value, code=1).stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == kept
    (out / "metrics.parquet").write_bytes(b"PAR1")
    damaged = run("train", "sae", out, *words, code=1).stderr
    assert "metrics.parquet': " in damaged and "move it away and repeat" in damaged
    (out / "metrics.parquet").write_bytes(kept["metrics.parquet"])
    run("train", "sae", out, *words)
    assert (out / HOOK / "sae_weights.safetensors").read_bytes() == whole
    steps = pl.read_parquet(out / "metrics.parquet")["step"].unique().sort().to_list()
    assert steps == [50, 100, 150, 187]


def test_a_store_that_keeps_activations_is_trained_on(
    gpt2_dir: Path, texts: Path, tmp_path: Path
) -> None:
    store, out = tmp_path / "x.lens", tmp_path / "out"
    run_id = make_store(
        store,
        IngestConfig(
            model=str(gpt2_dir), texts=str(texts), hooks=(HOOK,), keep=("activations",),
            energies="none",
        ),
    )  # fmt: skip
    words = ["--store", store, *SIZES, "--k", "8"]
    run("train", "sae", out, *words, "--heldout", texts)
    metadata = json.loads((out / HOOK / "cfg.json").read_text())["metadata"]
    assert metadata["run"] == run_id and metadata["heldout"]["heldout_fvu"] < 0.5
    assert metadata["heldout"]["gate"] == "passed"
    other = run("train", "sae", tmp_path / "no", "--store", store, "--hook", "blocks.0.x", code=2)
    assert f"keeps no activations at 'blocks.0.x'; it keeps those at {HOOK}; to" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give --model and --texts, or --store"),
        (("--model", "builtin:llama"), "give --model and --texts, or --store"),
        (("--model", "builtin:llama", "--texts", "x", "--run", "r"), "give --store too"),
        (("--store", "x", "--texts", "y"), "leave out --texts and --n-ctx"),
        (("--store", "NONE", "--hook", HOOK), "NONE"),
        (("--model", "m", "--texts", "t", "--hook", HOOK, "--set", "k"), "--set takes NAME=VALUE"),
        (("--model", "m", "--texts", "t", "--hook", HOOK, "--sweep", "k=a"), "'a' is no number"),
        (("--model", "m", "--texts", "t", "--hook", HOOK, "--dtype", "x"), "--dtype takes auto"),
        (("--model", "m", "--texts", "t", "--hook", HOOK, "--arch", "topkk"), "did you mean"),
        (("--model", "m", "--texts", "t", "--hook", HOOK, "--heldout", "/no"), "/no"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = runner.invoke(app, ["train", "sae", str(out), *arguments])
    assert result.exit_code in (1, 2) and said in result.stderr
    assert not out.exists()


def test_a_matter_of_a_hook_leaves_no_directory(source: list[Any], tmp_path: Path) -> None:
    words = [*source, "--hook", "blocks.7.hook_resid_post"]
    said = run("train", "sae", tmp_path / "out", *words, code=2).stderr
    assert "has no hook 'blocks.7.hook_resid_post'" in said
    tiny = tmp_path / "tiny.txt"
    tiny.write_text("the cat sat")
    few = ["--model", source[1], "--texts", tiny, "--n-ctx", "16", *SIZES]
    said = run("train", "sae", tmp_path / "out", *few, code=1).stderr
    assert "tokens of text are too few" in said
    wide = [*source, *SIZES, "--arch", "matryoshka_batchtopk"]
    assert "matryoshka_widths" in run("train", "sae", tmp_path / "out", *wide, code=2).stderr
    assert not (tmp_path / "out").exists()


_MATRYOSHKA = ("--arch", "matryoshka_batchtopk", "--k", "4")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--d-sae", "0"), "--d-sae 0 is no number of features; give 1 or more"),
        (("--sweep", "d_sae=32,inf"), "--d-sae inf is no number of features"),
        (("--sweep", "d_sae=nan"), "--d-sae nan is no number of features"),
        (("--d-sae", "1000000000000"), "does not fit into the memory of this machine"),
        (("--k", "33"), "--k 33 is outside 0 to 32, the features of the SAE"),
        (("--sweep", "k=4", "--sweep", "k=5"), "--sweep gives 'k' twice; give it once"),
        (("--set", "lr_end=0", "--set", "lr_end=1"), "--set gives 'lr_end' twice"),
        (("--seed", "-1"), "--seed -1 is outside 0 to"),
        (("--seed", str(2**64)), f"--seed {2**64} is outside 0 to"),
        (("--n-ctx", "0"), "--n-ctx 0 is outside 2 to 16"),
        (("--every", "nan"), "--every nan is no number of seconds"),
        (("--arch", "standard", "--l1", "-1"), "--l1 -1 is outside 0 to"),
        (("--arch", "xyz"), "'xyz'; it trains abstopk, batchtopk"),
        (("--set", "aux_loss=1"), "did you mean aux_loss_coefficient?"),
        (("--set", "lr_scheduler_name=no"), "refuses --set lr_scheduler_name=no: Unsupported"),
        (("--set", "adam_beta1=2"), "--set adam_beta1=2 is outside 0 to 1, since it is a share"),
        (("--set", "adam_beta1=1"), "refuses --set adam_beta1=1.0: Invalid beta"),
        (("--resample", "1", "--arch", "standard"), "--resample 1 is outside 2 to 187"),
        (("--k", "3", "--set", "k=4"), "--k and --set k give the same setting"),
        ((*_MATRYOSHKA, "--set", "matryoshka_widths=[16,64]"), "[16, 64] do not fit: each has to"),
        ((*_MATRYOSHKA, "--set", "matryoshka_widths=[16,8,32]"), "from 1 to 32, the features of"),
        ((*_MATRYOSHKA, "--set", "matryoshka_widths=[0,32]"), "[0, 32] do not fit"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(
    source: list[Any], arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    result = run("train", "sae", tmp_path / "out", *source, *SIZES, *arguments, code=2)
    last = result.stderr.splitlines()[-1]
    assert said in last and last.startswith("energylens: ") and "unexpected" not in last
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("n_bytes", "said"),
    [(2000, "metrics.parquet': "), (8000, "cannot write the checkpoint of step 187 to")],
)
def test_a_full_disk_is_said_and_the_same_command_goes_on(
    source: list[Any], whole: bytes, n_bytes: int, said: str, tmp_path: Path
) -> None:
    words, out = [*source, *SIZES, "--k", "4"], tmp_path / "out"
    script = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({n_bytes}, {n_bytes}))\n"
        "from energylens.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", script, "train", "sae", str(out), *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and said in last and "make room" in last, done.stderr
    assert "File too large" in last and "Traceback" not in done.stderr
    assert not list(out.rglob("*.partial"))
    run("train", "sae", out, *words)
    assert (out / HOOK / "sae_weights.safetensors").read_bytes() == whole
