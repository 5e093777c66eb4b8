"""Why the index does without weights is told by its true cause."""

import shutil
import sys
from pathlib import Path

import pytest

from energylens.ingest.index.build import build_indexes
from energylens.ingest.progress import Progress


@pytest.mark.parametrize(
    ("missing", "said", "not_said"),
    [
        ("torch", "needs the extra 'models' (torch is not installed)", "damaged"),
        ("energylens.lens.pieces", "module 'energylens.lens.pieces' is missing", "not installed"),
    ],
)
def test_a_missing_module_is_named(
    missing: str, said: str, not_said: str, store_path: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    store = Path(shutil.copytree(store_path, tmp_path / "copy.lens"))
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "energylens.ingest.index.weights", raising=False)
    (run,) = build_indexes(store, Progress(), next((store / "runs").iterdir()).name, n_flips=0)
    err = capsys.readouterr().err
    assert said in err and not_said not in err and f"every SAE of {run}" in err
