"""The wheel holds what the program reads beside its Python."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_holds_queries_styles_and_what_is_bundled(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, pattern in (
        ("queries/sql", "*.sql"),
        ("ingest/index/sql", "*.sql"),
        ("tui/styles", "*.tcss"),
        ("energylens/builtin/texts/categories", "*.jsonl"),
        ("energylens/builtin/models/llama", "*"),
        ("energylens/builtin/models/mesanet", "*"),
    ):
        wanted = {f.relative_to(ROOT).as_posix() for f in (ROOT / folder).glob(pattern)}
        assert wanted and wanted <= names, folder
    for model, n in (("llama", 6), ("mesanet", 7)):
        own = [path for path in names if path.startswith(f"energylens/builtin/saes/{model}/")]
        assert sum(name.endswith("sae_weights.safetensors") for name in own) == n
    tops = {name.split("/")[0] for name in names if not name.split("/")[0].endswith("dist-info")}
    assert tops == {"energylens", "ingest", "queries", "db", "tui"}
