"""The wheel, built from the sdist, holds what the program reads beside its Python."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

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


def test_the_wheel_of_the_sdist_holds_every_file_of_the_package(tmp_path: Path) -> None:
    wheel = build("wheel", unpacked_sdist(tmp_path / "sdist"), tmp_path / "wheel")
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
