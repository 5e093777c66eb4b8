"""The examples of docs/python.md and the notebook run, over the bundled model and a few texts."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import energylens
from energylens.builtin import builtin_path
from energylens.errors import UsageError
from energylens.queries.face import OpenStore

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "python.md"
NOTEBOOK = ROOT / "examples" / "explore.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small `demo.lens`, and texts to make another one from."""
    folder = tmp_path_factory.mktemp("python")
    rows = []
    for file in sorted(builtin_path("texts", "categories").iterdir()):
        rows += file.read_text("utf-8").splitlines()[:2]
    (folder / "many.jsonl").write_text("\n".join(rows), "utf-8")
    (folder / "texts.jsonl").write_text("\n".join(rows[:3]), "utf-8")
    sae = builtin_path("saes", "mesanet") / "blocks.1.hook_resid_post"
    made = energylens.ingest(
        folder / "demo.lens", "builtin:mesanet", folder / "many.jsonl", [str(sae)]
    )
    made.close()
    return folder


@pytest.fixture
def beside(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_ingest_does_what_the_command_does(folder: Path) -> None:
    with energylens.open(folder / "demo.lens") as store:
        run = store.info()
        assert (run.model, run.n_texts, len(run.saes)) == ("builtin:mesanet", 14, 1)
        assert store.runs["n_tokens"][0] == len(store.sql("SELECT token_index FROM tokens"))
        assert "index fresh" in repr(store)


def test_the_examples_of_the_page_run(beside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 8
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert "nearest: blocks.1.hook_resid_post" in said and "no store at 'nowhere.lens'" in said
    mine, store = names["mine"], names["store"]
    assert isinstance(mine, OpenStore) and isinstance(store, OpenStore)
    assert mine.info().n_texts == 3
    mine.close()
    store.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"saes": "builtin:llama"}, r"give saes=\['builtin:llama'\]"),
        ({"run_id": "../up"}, "takes letters"),
        ({"texts": "nowhere"}, "no texts at"),
    ],
)
def test_wrong_use_is_said(beside: Path, options: dict[str, str], message: str) -> None:
    asked = {"model": "builtin:llama", "texts": "texts.jsonl", **options}
    with pytest.raises(UsageError, match=message):
        energylens.ingest("x.lens", **asked)  # type: ignore[arg-type]


def test_the_notebook_runs(beside: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    client.NotebookClient(book, timeout=300, kernel_name="python3").execute(cwd=str(beside))
    shown = json.dumps([cell.outputs for cell in book.cells if cell.cell_type == "code"])
    assert "Feature 206" in shown and "text/html" in shown and "<script" not in shown
