"""Explanations read from the files people have: Neuronpedia's exports, tables of their own."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from energylens.db.explanations import Explanation, read_explanations
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.provenance import RunInfo, read_run
from energylens.db.scores import read_scores
from energylens.errors import UsageError
from energylens.ingest.explanations import TakenIn, explain

NEURONPEDIA = "gpt2-small/8-res-jb"
EXPORT = [
    {
        "modelId": "gpt2-small", "layer": "8-res-jb", "index": "3", "description": " déjà vu ",
        "typeName": "oai_token-act-pair", "explanationModelName": "gpt-4o-mini", "embedding": [0.1],
        "scores": [
            {"value": 0.75, "explanationScoreTypeName": "recall_alt"},
            {"value": "0.25", "explanationScoreTypeName": "eleuther_fuzz"}, {"value": None},
        ],
    },
    {
        "modelId": "gpt2-small", "layer": "8-res-jb", "index": "5", "description": "names",
        "typeName": "oai_token-act-pair", "explanationModelName": "gpt-4o-mini", "embedding": None,
        "scores": [],
    },
]  # fmt: skip


@pytest.fixture
def run(store_path: Path, tmp_path: Path) -> RunLayout:
    path = Path(shutil.copytree(store_path, tmp_path / "explained.lens"))
    return StoreLayout(path).runs()[0]


@pytest.fixture
def info(run: RunLayout) -> RunInfo:
    """The run, with its second SAE known to Neuronpedia."""
    info = read_run(run.run_json)
    first, second = info.saes
    return replace(info, saes=[first, replace(second, neuronpedia_id=NEURONPEDIA)])


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def kept(run: RunLayout) -> list[Explanation]:
    return [replace(e, run_id="", is_label=False) for e in read_explanations(run.explanations)]


def test_an_export_of_neuronpedia_finds_its_sae(
    run: RunLayout, info: RunInfo, tmp_path: Path
) -> None:
    lines = "\n".join(json.dumps(row) for row in EXPORT)
    plain = written(tmp_path / "batch-0.jsonl", lines)
    zipped = tmp_path / "batch-1.jsonl.gz"
    zipped.write_bytes(gzip.compress(lines.replace('"3"', '"9"').encode()))
    array = written(tmp_path / "all.json", json.dumps(EXPORT))
    sae_id = info.saes[1].sae_id
    assert explain(run, info, [plain, zipped], None, False) == TakenIn(sae_id, 4, 3, 0)
    one = Explanation(
        "", sae_id, 3, "déjà vu", "oai_token-act-pair", "gpt-4o-mini", 0.75, "recall_alt"
    )
    two = Explanation("", sae_id, 5, "names", "oai_token-act-pair", "gpt-4o-mini")
    assert kept(run) == [one, two, replace(one, feature_id=9)]
    assert explain(run, info, [array], None, True) == TakenIn(sae_id, 2, 2, 0)
    assert kept(run) == [one, two]


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_a_table_of_ones_own(run: RunLayout, info: RunInfo, tmp_path: Path, kind: str) -> None:
    rows = pl.DataFrame(
        {"Feature": [4, 2], "Label": ['quoted "[b]", and comma', "two"], "score": [0.5, None]}
    )
    file = tmp_path / f"own.{kind}"
    if kind == "csv":
        rows.write_csv(file)
    elif kind == "parquet":
        rows.write_parquet(file)
    else:
        rows.write_ndjson(file)
    sae_id = info.saes[0].sae_id
    assert explain(run, info, [file], sae_id, False).n_features == 2
    assert kept(run) == [
        Explanation("", sae_id, 2, "two"),
        Explanation("", sae_id, 4, 'quoted "[b]", and comma', score=0.5),
    ]


def test_rows_about_another_source_are_left_out(
    run: RunLayout, info: RunInfo, tmp_path: Path
) -> None:
    other = {**EXPORT[0], "layer": "9-res-jb"}
    file = written(tmp_path / "two.jsonl", f"{json.dumps(other)}\n{json.dumps(EXPORT[1])}\n")
    assert explain(run, info, [file], None, False).n_elsewhere == 1
    assert [e.description for e in kept(run)] == ["names"]
    file = written(tmp_path / "one.jsonl", json.dumps(other))
    with pytest.raises(UsageError, match=r"no row of .* is about .*8-res-jb in Neuronpedia"):
        explain(run, info, [file], info.saes[1].sae_id, False)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.txt", "feature,label", "is none of .jsonl"),
        ("x.csv", "feature_id,words\n1,a\n", "no column for description .*feature_id, words"),
        ("x.jsonl", "not json", "cannot read"),
        ("x.csv", "feature_id,label\nfive,a\n", "row 1, has no feature's number: 'five'"),
        ("x.csv", "feature_id,label\ninf,a\n", "row 1, has no feature's number: 'infinity'"),
        ("x.csv", "feature_id,label\n1,a\nnan,b\n", "row 2, has no feature's number: 'nan'"),
        ("x.csv", "feature_id,label\n1e300,a\n", "about feature 1000"),
        ("x.csv", "feature_id,label\n1.5,a\n", "row 1, has no feature's number: '1.5'"),
        ("x.csv", f"feature_id,label\nx,a\n{'1' * 5000},a\n", "row 1, has no feature's number"),
        ("x.csv", f"feature_id,label\n{'1' * 5000},a\n", "feature"),
        ("x.jsonl", '{"index": [1], "label": "a"}', "row 1, has no feature's number: '.1.'"),
        ("x.csv", "feature_id,label\n1,infinity\n-1,-infinity\n", "about feature -1"),
        ("x.jsonl", '{"index": -1, "label": "a"}', "about feature -1"),
        ("x.csv", "feature_id,label\n1,a\n2,\n", "row 2, has no description"),
        ("x.csv", "feature_id,label\n99999,a\n", "feature 99999, but .* of another SAE"),
        ("x.csv", "feature_id,label,score\n1,a,much\n", "a score that is no number: 'much'"),
        ("x.csv", "feature_id,label,scores\n1,a,[{\n", "scores that are no JSON: '\\[{'"),
        ("x.csv", f"feature_id,label,scores\n1,a,{'[' * 100_000}\n", "scores that are no JSON"),
    ],
)
def test_what_cannot_be_read_is_named_and_changes_nothing(
    run: RunLayout, info: RunInfo, tmp_path: Path, name: str, text: str, message: str
) -> None:
    good = written(tmp_path / "good.csv", "feature_id,label\n1,a\n")
    sae_id = info.saes[0].sae_id
    explain(run, info, [good], sae_id, False)
    before = run.explanations.read_bytes()
    with pytest.raises(UsageError, match=message):
        explain(run, info, [good, written(tmp_path / name, text)], sae_id, True)
    assert run.explanations.read_bytes() == before


def test_a_number_that_a_table_writes_as_missing_is_no_score(
    run: RunLayout, info: RunInfo, tmp_path: Path
) -> None:
    rows = "feature_id,label,score\n1.0,a,nan\n1.0,b,0.5\n2.0,c,\n"
    explain(run, info, [written(tmp_path / "x.csv", rows)], info.saes[0].sae_id, False)
    found = {e.description: (e.feature_id, e.score) for e in kept(run)}
    assert found == {"a": (1, None), "b": (1, 0.5), "c": (2, None)}
    labels = {e.description: e.is_label for e in read_explanations(run.explanations)}
    assert labels == {"a": False, "b": True, "c": True}


def test_the_sae_must_be_clear(run: RunLayout, info: RunInfo, tmp_path: Path) -> None:
    file = written(tmp_path / "x.csv", "feature_id,label\n1,a\n")
    with pytest.raises(UsageError, match="say with --sae"):
        explain(run, info, [file], None, False)
    with pytest.raises(UsageError, match="has no SAE 'mistyped'; nearest: mlp, resid"):
        explain(run, info, [file], "mistyped", False)
    with pytest.raises(UsageError, match="there is no file"):
        explain(run, info, [tmp_path / "none.csv"], info.saes[0].sae_id, False)
    alone = replace(info, saes=info.saes[:1])
    assert explain(run, alone, [file], None, False).sae_id == info.saes[0].sae_id


def test_every_score_of_a_file_is_kept(run: RunLayout, info: RunInfo, tmp_path: Path) -> None:
    path = written(tmp_path / "x.json", json.dumps(EXPORT))
    explain(run, info, [path], None, False)
    explain(run, info, [path], None, False)
    scores = [(s.feature_id, s.score_type, s.score, s.judge, s.score_low) for s in read_scores(run)]
    assert scores == [(3, "eleuther_fuzz", 0.25, "", None), (3, "recall_alt", 0.75, "", None)]
    (one,) = {(s.description, s.method, s.model) for s in read_scores(run)}
    assert one == ("déjà vu", "oai_token-act-pair", "gpt-4o-mini")


def test_names_of_columns_that_are_no_utf8_are_told(
    run: RunLayout, info: RunInfo, tmp_path: Path
) -> None:
    file = tmp_path / "odd.parquet"
    pl.DataFrame({"feature_id": [1], "description": ["x"], "remark": ["y"]}).write_parquet(file)
    file.write_bytes(file.read_bytes().replace(b"remark", b"rem\xffrk"))
    with pytest.raises(UsageError, match=r"cannot read .*odd.parquet.* no UTF-8"):
        explain(run, info, [file], "resid", False)
    assert not run.explanations.exists()
