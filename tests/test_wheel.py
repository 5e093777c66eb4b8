"""The wheel, built from the sdist, holds all that the program reads, and runs alone."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from energylens import __version__
from tests.without_extras import base_distributions

ROOT = Path(__file__).resolve().parents[1]
LINKED = ("db", "ingest", "queries", "tui")


def build(kind: str, root: Path, out: Path) -> Path:
    """The one file that is built."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)],
        cwd=root, check=True, capture_output=True,
    )  # fmt: skip
    (made,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def unpacked_sdist(out: Path) -> Path:
    with tarfile.open(build("sdist", ROOT, out)) as packed:
        packed.extractall(out, filter="data")
    (root,) = (path for path in out.iterdir() if path.is_dir())
    return root


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist."""
    out = tmp_path_factory.mktemp("built")
    return build("wheel", unpacked_sdist(out / "sdist"), out / "wheel")


def test_the_wheel_is_small(wheel: Path) -> None:
    """Nearly all of it are weights of two bytes each, in which nothing is left to compress."""
    assert wheel.stat().st_size < 16.5e6


def test_one_version_is_told_everywhere(wheel: Path) -> None:
    assert wheel.name.startswith(f"energy_lens-{__version__}-")
    (cited,) = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited == __version__
    changes = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert changes[0] == "Unreleased" or changes[0] == __version__


def test_the_wheel_of_the_sdist_holds_every_file_of_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, place in (*((top, f"energylens/{top}") for top in LINKED), ("energylens",) * 2):
        for file in (ROOT / folder).rglob("*"):
            inside = file.relative_to(ROOT / folder)
            is_ours = "__pycache__" not in inside.parts and inside.parts[0] not in LINKED
            if file.is_file() and is_ours:
                assert f"{place}/{inside.as_posix()}" in names, file
    for model, n in (("llama", 6), ("mesanet", 7)):
        own = [path for path in names if path.startswith(f"energylens/builtin/saes/{model}/")]
        assert sum(name.endswith("sae_weights.safetensors") for name in own) == n
    tops = {name.split("/")[0] for name in names if not name.split("/")[0].endswith("dist-info")}
    assert tops == {"energylens"}


ALONE = """
import json, sys
import energylens
store = energylens.open(sys.argv[1])
n = store.sql("SELECT count(*) AS n FROM codes")["n"][0]
store.close()
print(json.dumps([energylens.__file__, n, sorted({"torch", "transformers"} & set(sys.modules))]))
"""


def site_of(environment: Path) -> Path:
    (site,) = (environment / "lib").glob("python*/site-packages")
    return site


def installed_alone(wheel: Path, at: Path) -> Path:
    """The Python of a new environment with the wheel, and of this one's packages those that the
    base install brings: each a link, for the network is not asked."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(at)], check=True)
    site = site_of(at)
    for name in base_distributions() - {"energy-lens"}:
        for file in distribution(name).files or ():
            top, found = file.parts[0], Path(str(distribution(name).locate_file(file.parts[0])))
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(found)
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    return at / "bin" / "python"


def test_the_wheel_of_the_sdist_runs_alone_beside_files_of_other_names(
    wheel: Path, tmp_path: Path, store_path: Path
) -> None:
    python = installed_alone(wheel, tmp_path / "env")
    work = tmp_path / "work"
    shutil.copytree(store_path, work / "tiny.lens")
    for name in LINKED:
        (work / f"{name}.py").write_text("raise SystemExit('a neighbour was imported')")
    (work / "mine.py").write_text(ALONE)

    def said(*arguments: str) -> str:
        done = subprocess.run(
            [str(python), *arguments], cwd=work, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": "", "HOME": str(work)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    where, n_codes, heavy = json.loads(said("mine.py", "tiny.lens"))
    assert Path(where).is_relative_to(tmp_path / "env") and n_codes > 0 and not heavy
    counted = said("-m", "energylens", "sql", "tiny.lens", "SELECT count(*) AS n FROM codes",
                   "--format", "json")  # fmt: skip
    assert json.loads(counted) == {"n": n_codes}
    assert "the store is sound" in said("-m", "energylens", "verify", "tiny.lens")
    assert said("-m", "energylens", "compare", "tiny.lens", *[run_of(work / "tiny.lens")] * 2)
    shutil.rmtree(work / "tiny.lens" / "runs" / run_of(work / "tiny.lens") / "index")
    said("-m", "energylens", "index", "tiny.lens")
    missing = subprocess.run([str(python), "-c", "import torch"], capture_output=True, check=False)
    assert missing.returncode, "an extra's module stands in what should be the base alone"


def run_of(store: Path) -> str:
    (run,) = (store / "runs").iterdir()
    return run.name
