"""`energylens train` as a person types it: what it makes, what it says, what it refuses."""

import json
from pathlib import Path

import polars as pl
import pytest

from energylens.cli import training_texts
from energylens.errors import TrainingError
from energylens.lens.models import load_model
from tests.cli.test_cli import run

SIZES = ["--d-model", "32", "--n-layers", "1", "--n-ctx", "16", "--vocab-size", "280"]
MESANET = [*SIZES, "--n-heads", "2", "--n-anchors", "4", "--n-tokens", "2560"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "t.jsonl"
    rows = (
        {"text": f"the cat number {n} sat on mat {n * n}", "category": "ab"[n % 2]}
        for n in range(400)
    )
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_training_commands_make_what_ingest_takes(tmp_path: Path, texts: Path) -> None:
    run("train", "lm", tmp_path / "lm", "--texts", texts, "--n-tokens", "6400", *SIZES)
    run(
        "train", "sae", tmp_path / "saes", "--model", tmp_path / "lm", "--texts", texts,
        "--hook", "blocks.0.hook_resid_post", "--d-sae", "64", "--k", "8",
        "--n-tokens", "100000", "--n-ctx", "16",
    )  # fmt: skip
    run(
        "ingest", tmp_path / "x.lens", "--model", tmp_path / "lm", "--sae", tmp_path / "saes",
        "--texts", texts,
    )  # fmt: skip
    assert "blocks.0.hook_resid_post" in run("info", tmp_path / "x.lens").stdout


def test_a_mesanet_is_watched_while_it_trains(tmp_path: Path, texts: Path) -> None:
    out = tmp_path / "m"
    result = run("train", "mesanet", out, "--texts", texts, "--heldout", texts, *MESANET)
    assert "step 20/20" in result.stderr and "MaxVio" in result.stderr
    assert "held out, bits a byte: a " in result.stderr and "the model is in" in result.stderr
    assert "the ceiling is" in result.stderr
    rows = pl.read_parquet(out / "metrics.parquet")
    assert rows.columns == ["n_tokens", "metric", "layer", "category", "value"]
    bits = rows.filter(pl.col("metric") == "heldout_bits_per_byte")
    assert bits["n_tokens"].unique().to_list() == [256 * n for n in range(1, 11)]
    assert set(bits["category"]) == {"a", "b", "all"}
    whole = json.loads(
        run("train", "heldout", out, "--texts", texts, "--format", "json").stdout.splitlines()[-1]
    )
    assert whole["category"] == "all" and whole["bits_per_byte"] > 0
    health = rows.filter(pl.col("metric") == "router_dead_anchors")
    assert health["layer"].to_list() == [0]


def test_a_mesanet_with_exits_is_one_to_load_and_so_is_one_that_gets_them_later(
    tmp_path: Path, texts: Path
) -> None:
    sizes = [*MESANET, "--n-layers", "2"]
    run("train", "mesanet", tmp_path / "a", "--texts", texts, *sizes, "--exits", "--exit-energy")
    run("train", "mesanet", tmp_path / "b", "--texts", texts, *sizes)
    later = ["--from", str(tmp_path / "b"), "--exits", "--exit-weight", ".1", "--n-ctx", "16"]
    run("train", "mesanet", tmp_path / "c", "--texts", texts, *later, "--n-tokens", "2560")
    found = [load_model(str(tmp_path / name)).hf_model for name in "abc"]
    heads = [model.exit_heads and model.exit_heads.weight for model in found]
    assert [None if head is None else head.shape for head in heads] == [
        (1, 2, 32),
        None,
        (1, 1, 32),
    ]
    assert all(head.abs().sum() > 0 for head in heads if head is not None)
    assert found[2].config.exit_weight == 0.1


def test_a_training_refuses_what_would_spoil_another(tmp_path: Path, texts: Path) -> None:
    out = tmp_path / "m"
    run("train", "mesanet", out, "--texts", texts, *MESANET)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    other = run("train", "mesanet", out, "--texts", texts, *MESANET, "--seed", "4", code=1)
    assert "other settings: seed 0, not 4" in other.stderr
    more = run("train", "mesanet", out, "--texts", "builtin:categories", *MESANET, code=1)
    assert "other texts" in more.stderr
    fewer = [*MESANET, "--vocab-size", "270"]
    assert (
        "has 280 entries" in run("train", "mesanet", out, "--texts", texts, *fewer, code=2).stderr
    )
    again = run("train", "mesanet", out, "--from", "builtin:mesanet", "--texts", texts, code=1)
    assert "other settings" in again.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--texts", "EMPTY"), "holds no .txt"),
        (("--texts", "LATIN"), "is not UTF-8"),
        (("--texts", "SHORT"), "too few for one step"),
        (("--texts", "builtin:categories", "--device", "cuda:77"), "--device cuda:77 cannot"),
        (("--texts", "builtin:categories", "--mixer", "sine"), "--mixer takes mesa, attention"),
        (("--texts", "builtin:categories", "--exit-energy"), "belong to --exits"),
        (("--texts", "builtin:categories", "--exits"), "needs two blocks"),
        (("--texts", "builtin:categories", "--exits", "--exit-weight", "2"), "at most 1, not 2"),
        (("--texts", "builtin:categories", "--from", "builtin:llama"), "needs a MesaNet"),
    ],
)
def test_bad_input_is_named(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("EMPTY", "LATIN", "SHORT")}
    for place in places.values():
        place.mkdir()
    (places["LATIN"] / "a.txt").write_bytes(b"caf\xe9")
    (places["SHORT"] / "a.txt").write_text("one")
    given = [str(places.get(a, a)) for a in arguments]
    code = 1 if "SHORT" in arguments else 2
    assert said in run("train", "mesanet", tmp_path / "m", *given, *MESANET, code=code).stderr


def test_one_enormous_line_trains_like_any_other_text(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("the cat sat on the mat and " * 40_000)
    result = run("train", "mesanet", tmp_path / "m", "--texts", path, *MESANET)
    assert "1 texts" in result.stderr and "the model is in" in result.stderr


class _Refused:
    """A tokenizer whose files do not fit on the disk, as tokenizers says it."""

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "tokenizer_config.json").write_text("{}")
        raise Exception("File too large (os error 27)")


def test_a_tokenizer_is_there_whole_or_not_at_all(tmp_path: Path, texts: Path) -> None:
    with pytest.raises(TrainingError, match=r"cannot write the tokenizer .*File too large"):
        training_texts.keep_tokenizer(_Refused(), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "out" / ".tokenizer.partial" / "x").mkdir(parents=True)
    training_texts.tokenized(tmp_path / "out", str(texts), 300, 0)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["tokenizer.json", "tokenizer_config.json"]
    (tmp_path / "out" / "tokenizer.json").write_text("{")
    with pytest.raises(TrainingError, match="cannot be read"):
        training_texts.tokenized(tmp_path / "out", str(texts), 300, 0)
