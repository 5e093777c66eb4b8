"""What each layer loads when it runs; the linter sees only what is written."""

import subprocess
import sys

import pytest

CASES = [
    ("import energylens.cli", ("torch", "textual", "duckdb", "polars", "transformers", "rich")),
    ("import energylens.tui.app", ("torch", "transformers", "sae_lens", "energylens.ingest.plan")),
    (
        "import energylens.tui.app",
        ("matplotlib", "resvg_py", "jinja2", "energylens.report.figures"),
    ),
    (
        "import energylens.queries.catalog, energylens.queries.adhoc, energylens.db.verify",
        ("torch", "textual", "transformers"),
    ),
    ("import energylens.ingest.index.build, energylens.ingest.texts", ("torch", "textual")),
    ("import energylens.lens.saes, energylens.lens.gate", ("duckdb", "textual", "energylens.db")),
]

THEN = "import energylens.ingest.run, energylens.ingest.index.build"
"""After the lens, whose libraries it needs and takes long to load."""


@pytest.mark.parametrize(("statement", "absent"), CASES)
def test_layers_load_only_what_they_may(statement: str, absent: tuple[str, ...]) -> None:
    program = f"{statement}\nimport sys\nprint(sorted({set(absent)!r} & set(sys.modules)))"
    if "energylens.lens" in statement:
        program += f"\n{THEN}\nprint(sorted({{'textual', 'energylens.tui'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {"[]"}
