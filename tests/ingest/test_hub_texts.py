"""Datasets as `datasets` reads them, from local directories of the same form as the hub's."""

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from energylens.errors import HubError, TextsError
from energylens.ingest import hub_texts
from energylens.ingest.hub_texts import HubTexts, pinned
from energylens.ingest.plan import IngestConfig, load
from energylens.ingest.texts import Text, iter_texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A training split of two files and a test split of one."""
    for name, texts in (("train-0", ["a", "b"]), ("train-1", ["c"]), ("test-0", ["z"])):
        rows = pa.table({"text": texts, "category": [f"of {t}" for t in texts]})
        pq.write_table(rows, tmp_path / f"{name}.parquet")
    return tmp_path


def read(spec: str) -> list[str]:
    return [text.text for text in iter_texts(spec)]


def test_a_split_is_read_in_its_order(folder: Path) -> None:
    assert read(f"hf:{folder}:test") == ["z"]
    assert read(f"hf:{folder}:train") == read(f"hf:{folder}") == ["a", "b", "c"]
    assert next(iter_texts(f"hf:{folder}")) == Text("a", "of a", None)


def test_rows_of_json_lines_and_of_a_saved_dataset(tmp_path: Path) -> None:
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "x.jsonl").write_text(json.dumps({"text": "é"}) + "\n")
    assert read(f"hf:{tmp_path}/lines") == ["é"]
    parts = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("one", "two")}
    datasets.DatasetDict(parts.items()).save_to_disk(tmp_path / "saved")
    assert read(f"hf:{tmp_path}/saved:two") == ["two"]
    parts["one"].save_to_disk(tmp_path / "alone")
    assert read(f"hf:{tmp_path}/alone") == ["one"]
    with pytest.raises(TextsError, match="names no split; there are: one, two"):
        read(f"hf:{tmp_path}/saved")


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("hf:owner/name", HubTexts("owner/name", None, None, None)),
        ("hf:owner/name:test", HubTexts("owner/name", None, "test", None)),
        ("hf:owner/name:small:test", HubTexts("owner/name", "small", "test", None)),
        ("hf:owner/name:test@main", HubTexts("owner/name", None, "test", "main")),
        ("hf:owner/name@0af", HubTexts("owner/name", None, None, "0af")),
    ],
)
def test_what_a_spec_names(spec: str, found: HubTexts) -> None:
    assert hub_texts._parse(spec) == found
    assert found.spec == spec


def test_a_folder_may_hold_colons_and_at_signs(tmp_path: Path) -> None:
    folder = tmp_path / "a:b@c"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["x"]}), folder / "train.parquet")
    assert read(f"hf:{folder}:train") == ["x"]


def test_the_commit_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def opened(texts: HubTexts) -> tuple[dict[str, list[dict[str, str]]], str]:
        asked.append((texts.name, texts.revision))
        return {"train": [{"text": "x"}], "test": []}, "0123abc"

    monkeypatch.setattr(hub_texts, "_open", opened)
    spec, revision = pinned("hf:owner/name")
    assert (spec, revision) == ("hf:owner/name:train@0123abc", "0123abc")
    assert read(spec) == ["x"]
    assert asked == [("owner/name", None), ("owner/name", "0123abc")]


def test_a_run_says_what_it_read(folder: Path, gpt2_dir: Path) -> None:
    pq.write_table(pa.table({"text": ["The cat"], "category": ["k"]}), folder / "train-0.parquet")
    loaded = load(IngestConfig(model=str(gpt2_dir), texts=f"hf:{folder}", energies="none"))
    assert loaded.config.texts == f"hf:{folder}:train"
    assert loaded.texts_revision
    assert loaded.plan.n_texts == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hf:{}:dev", r"has no split 'dev'; there are: test, train"),
        ("hf:{}/nowhere", "cannot be read: Couldn't find"),
        ("hf:owner/name", "the dataset 'owner/name' is not on this machine and the hub"),
        ("hf:", "is not hf:NAME"),
        ("hf:owner/name:a:b:c", "is not hf:NAME"),
    ],
)
def test_what_is_not_there_is_said(folder: Path, spec: str, message: str) -> None:
    with pytest.raises((TextsError, HubError), match=message):
        read(spec.format(folder))


def test_a_damaged_file_and_rows_without_text(folder: Path) -> None:
    pq.write_table(pa.table({"body": ["x"]}), folder / "train-0.parquet")
    pq.write_table(pa.table({"body": ["x"]}), folder / "train-1.parquet")
    with pytest.raises(TextsError, match=r"row 1, has no 'text' \(its columns: body\)"):
        read(f"hf:{folder}")
    (folder / "train-0.parquet").write_bytes(b"junk")
    with pytest.raises(TextsError, match="cannot be read"):
        read(f"hf:{folder}")


@pytest.mark.parametrize(("name", "message"), [("x.pkl", "No .* data files"), ("x.xml", "'xml'")])
def test_other_forms_and_pickles_are_not_read(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"<a/>")
    with pytest.raises(TextsError, match=message):
        read(f"hf:{tmp_path}")
