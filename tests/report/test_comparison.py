"""Comparisons: the measures against the rows they are made of, and what bounds do."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from energylens.cli import app
from energylens.errors import UsageError
from energylens.ingest.plan import IngestConfig
from energylens.queries.catalog import open_catalog
from energylens.queries.compare import compare_runs
from energylens.report.comparison import measured
from energylens.report.thresholds import MEASURES, Threshold, parse_threshold
from tests.conftest import make_gpt2, make_sae, make_store


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, gpt2_dir: Path, save_model: Callable[..., Path]
) -> Path:
    """Two models over the same texts with the same SAE."""
    root = tmp_path_factory.mktemp("pair")
    make_sae("standard", "blocks.1.hook_resid_post", d_sae=40).save_model(root / "saes" / "sae")
    drawn = np.random.default_rng(2)
    words = ["the", "cat", "sat", "on", "a", "mat", "dog", "barks", "1", "+", "="]
    with (root / "texts.jsonl").open("w") as lines:
        for n in range(24):
            text = " ".join(drawn.choice(words, drawn.integers(4, 12)))
            lines.write(f'{{"text": "{text}", "category": "{"ab"[n % 2]}"}}\n')
    first = IngestConfig(
        model=str(gpt2_dir), texts=str(root / "texts.jsonl"), saes=(str(root / "saes"),),
        run_id="first", accept_gate=True,
    )  # fmt: skip
    path = root / "pair.lens"
    make_store(path, first)
    make_store(path, replace(first, model=str(save_model(make_gpt2(seed=1))), run_id="second"))
    return path


def run(*args: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["report", *map(str, args)])
    return done.exit_code, re.sub(r"\s+", " ", done.output + done.stderr)


def test_measures_are_those_of_the_stored_energies(pair: Path) -> None:
    with open_catalog(pair) as store:
        found = compare_runs(store, "first", "second")
        values = measured(found)
        rows = pl.DataFrame(
            store.cursor()
            .sql(
                "SELECT run_id, text_id, category, avg(energy) AS e FROM tokens "
                "JOIN contexts USING (run_id, context_id) JOIN texts USING (run_id, text_id) "
                "WHERE NOT is_masked GROUP BY ALL HAVING count(energy) > 0"
            )
            .to_arrow_table()
        ).pivot(on="run_id", index=["text_id", "category"], values="e")
    change = rows.with_columns(d=pl.col("second") - pl.col("first"))
    mean = float(np.mean(change["d"].to_numpy()))
    assert values["energy"] == pytest.approx(mean, rel=1e-5)
    worst = change.group_by("category").agg(pl.col("d").mean())["d"].max()
    assert values["worst_category"] == pytest.approx(worst, rel=1e-5)
    low, high = values["energy_low"], values["energy_high"]
    assert low is not None and high is not None and low < mean < high
    saes = found.saes.row(0, named=True)
    assert values["fvu"] == saes["other_fvu"] - saes["fvu"]
    assert values["live"] == saes["n_live"] - saes["other_n_live"]


def test_a_comparison_is_a_page_and_ends_by_its_bounds(pair: Path, tmp_path: Path) -> None:
    both = (pair, "--compare", "first", "second")
    code, said = run(*both, "-o", tmp_path / "a", "--fail-on", "energy > 1e3")
    assert code == 0 and "Within all bounds: nowhere energy > 1000." in said
    code, said = run(*both, "-o", tmp_path / "b", "--fail-on", "l0>=0", "--fail-on", "energy>1e3")
    assert code == 3 and "Out of bounds: l0 >= 0 (" in said
    assert {p.name for p in (tmp_path / "b").iterdir()} == {
        "data", "figures", "report.html", "report.md"
    }  # fmt: skip
    markdown = (tmp_path / "b" / "report.md").read_text("utf-8")
    assert markdown.startswith("# second against first\n\n**Out of bounds: l0 \\>= 0 (")
    html = (tmp_path / "b" / "report.html").read_text("utf-8")
    assert "Out of bounds: l0 &gt;= 0 (" in html and "<script" not in html
    for name in MEASURES:
        assert name in html and name in markdown


def test_wrong_comparisons_are_sentences(pair: Path, tmp_path: Path) -> None:
    for args, answer in (
        (("--compare", "first", "third"), "nearest: first"),
        (("--compare", "first", "fir"), "compared with itself"),
        (("first", "--compare", "first", "second"), "leave it out"),
        (("first", "--fail-on", "energy > 1"), "give --compare RUN_A RUN_B too"),
        (("--compare", "first", "second", "--fail-on", "energie > 1"), "nearest: energy"),
        (("--compare", "first", "second", "--fail-on", "energy"), "as 'energy > 0.05'"),
    ):
        code, said = run(pair, *args, "-o", tmp_path / "x")
        assert code == 2 and answer in said, said
    assert not (tmp_path / "x").exists()


@given(
    st.sampled_from(sorted(MEASURES)),
    st.sampled_from([">", ">=", "<", "<="]),
    st.floats(-1e6, 1e6),
    st.floats(-1e6, 1e6),
)
def test_a_bound_reads_back_and_holds_as_it_says(
    name: str, sign: str, bound: float, value: float
) -> None:
    one = parse_threshold(f" {name}{sign} {bound!r}".replace("e+", "e"))
    assert one == Threshold(name, sign, bound)
    expected = {">": value > bound, ">=": value >= bound, "<": value < bound, "<=": value <= bound}
    assert one.holds({name: value}) is expected[sign]


@pytest.mark.parametrize("text", ["", ">", "energy > ", "energy > x", "energy = 1", "1 > energy",
                                  "energy > 1 2", "energy > 1..2", "energy > ٣"])  # fmt: skip
def test_what_is_no_bound_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--fail-on takes a measure and a bound"):
        parse_threshold(text)


def test_what_cannot_be_judged_is_no_success() -> None:
    with pytest.raises(UsageError, match="cannot be judged"):
        Threshold("fvu", ">", 0.0).holds({"fvu": None})
