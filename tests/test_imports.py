"""What each layer loads when it runs; the linter sees only what is written."""

import subprocess
import sys

import pytest

CASES = [
    ("import energylens.cli", ("torch", "textual", "duckdb", "polars", "transformers", "rich")),
    ("import tui.app", ("torch", "transformers", "sae_lens", "ingest.plan")),
    ("import queries.catalog, queries.adhoc, db.verify", ("torch", "textual", "transformers")),
    ("import ingest.plan, ingest.run, ingest.index.build", ("textual", "tui")),
    ("import ingest.index.build, ingest.texts, ingest.progress", ("torch", "textual")),
    ("import energylens.models, energylens.saes, energylens.gate", ("duckdb", "textual", "db")),
]


@pytest.mark.parametrize(("statement", "absent"), CASES)
def test_layers_load_only_what_they_may(statement: str, absent: tuple[str, ...]) -> None:
    program = f"{statement}\nimport sys\nprint(sorted({set(absent)!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_another_package_of_our_name_is_named(tmp_path) -> None:
    (tmp_path / "queries.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path.insert(0, '.'); import energylens"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "needs its own package 'queries'" in done.stderr and str(tmp_path) in done.stderr
