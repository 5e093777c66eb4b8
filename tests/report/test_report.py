"""Reports: their numbers come again from the queries beside them, and nothing in them runs."""

import json
import math
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy.stats import t as student
from typer.testing import CliRunner

import energylens
from energylens.cli import app
from energylens.ingest.plan import IngestConfig
from energylens.queries.display import is_plain
from energylens.queries.overview import run_summaries
from energylens.report.asked import literal
from energylens.report.build import Report, write_report
from energylens.report.figure import drawn
from tests.conftest import make_store

NAMES = {
    "energy_landscape", "energy_by_layer", "efas_distribution", "sae_performance",
    "routing_efficiency", "anchor_specialization", "routing_circuits", "specialist_scores",
    "strongest_activations", "feature_coverage", "specialists_by_depth", "coactivation_clusters",
    "padding_effect", "stream_comparison", "density_and_l0",
}  # fmt: skip


def made(store: Path, folder: Path) -> Report:
    """The report of the only run of a store."""
    with energylens.open(store) as opened:
        summary = run_summaries(opened._store)[0]
        return write_report(opened, summary.info, summary.n_texts, folder, lambda _: None)


@pytest.fixture(scope="module")
def folder(rich_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report") / "report"


@pytest.fixture(scope="module")
def report(rich_path: Path, folder: Path) -> Report:
    return made(rich_path, folder)


def test_every_figure_is_there_or_said_to_be_missing(report: Report, folder: Path) -> None:
    drawn_ones = {picture.figure.name for picture in report.figures}
    assert drawn_ones | {one.name for one in report.missing} == NAMES
    assert len(drawn_ones) >= 13 and all(one.reason for one in report.missing)
    for name in drawn_ones:
        root = ET.parse(folder / "figures" / f"{name}.svg").getroot()
        assert root.tag.endswith("svg") and not list(
            root.iter("{http://www.w3.org/2000/svg}script")
        )
        assert (folder / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_queries_beside_the_figures_give_their_numbers(
    report: Report, folder: Path, rich_path: Path
) -> None:
    said = sorted((folder / "data").glob("*.json"))
    assert len(said) >= len(report.figures)
    with energylens.open(rich_path) as store:
        for path in said:
            stored = json.loads(path.read_text("utf-8"))
            rows = pl.read_parquet(path.with_suffix(".parquet"))
            assert len(stored["rows"]) == len(rows)
            assert_frame_equal(store.sql(stored["sql"]), rows, check_dtypes=False)


def test_bands_are_those_of_a_ratio_of_sums_over_texts(report: Report, rich_path: Path) -> None:
    with energylens.open(rich_path) as store:
        tokens = store.sql(
            "SELECT e.layer, x.text_id, e.energy FROM energies AS e JOIN tokens AS t "
            "USING (run_id, token_index) JOIN contexts AS c USING (run_id, context_id) "
            "JOIN texts AS x USING (run_id, text_id) WHERE NOT t.is_masked AND e.energy IS NOT NULL"
        )
    figure = next(p.figure for p in report.figures if p.figure.name == "energy_by_layer")
    shown = figure.asked[0].rows.filter("is_all")
    for row in shown.iter_rows(named=True):
        own = tokens.filter(pl.col("layer") == row["layer"])
        groups = [g["energy"].to_numpy() for _, g in own.group_by("text_id")]
        mean = np.concatenate(groups).mean()
        parts = np.array([float((g - mean).sum()) for g in groups])
        m = len(groups)
        error = math.sqrt((parts**2).sum() * m / (m - 1)) / len(own)
        assert row["n_texts"] == m
        assert row["mean_energy"] == pytest.approx(mean, rel=1e-5)
        assert row["error"] == pytest.approx(error, rel=1e-4)
    assert student.ppf(0.975, shown["n_texts"][0] - 1) > 1.96


def test_the_same_run_is_the_same_report(report: Report, rich_path: Path, tmp_path: Path) -> None:
    again = made(rich_path, tmp_path / "again")
    for one, other in zip(report.figures, again.figures, strict=True):
        assert one.svg == other.svg
    assert drawn(report.figures[0].figure) == drawn(again.figures[0].figure)


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        assert not {name for name in given if name.startswith("on")}
        self.sources += [given[name] or "" for name in ("src", "href") if name in given]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_and_runs_nothing(report: Report, folder: Path) -> None:
    html = (folder / "report.html").read_text("utf-8")
    page = Page(html)
    assert not {"script", "iframe", "object", "form"} & page.tags
    assert all(one.startswith(("data:", "#")) for one in page.sources)
    assert len(html) < 8e6
    for picture in report.figures:
        assert picture.figure.title in page.text and picture.figure.caption in page.text


def test_markdown_has_its_pictures(report: Report, folder: Path) -> None:
    text = (folder / "report.md").read_text("utf-8")
    for picture in report.figures:
        assert f"](figures/{picture.figure.name}.png)" in text
    for one in report.specialists:
        assert f"feature {one.card.record.feature_id} of" in text


@pytest.fixture(scope="module")
def bare_path(tmp_path_factory: pytest.TempPathFactory, gpt2_dir: Path, texts_dir: Path) -> Path:
    """A store whose run has energies and no SAE."""
    path = tmp_path_factory.mktemp("bare") / "bare.lens"
    make_store(path, IngestConfig(model=str(gpt2_dir), texts=str(texts_dir)))
    return path


def run(*args: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["report", *map(str, args)])
    return done.exit_code, done.output + done.stderr


def test_a_run_without_saes_says_what_it_lacks(bare_path: Path, tmp_path: Path) -> None:
    code, said = run(bare_path, "-o", tmp_path / "r")
    assert code == 0, said
    assert "left out: SAEs: the run has no SAE" in said and "left out: Specialists" in said
    assert (tmp_path / "r" / "figures" / "energy_by_layer.svg").exists()
    code, said = run(bare_path, "-o", tmp_path / "r")
    assert code == 2 and "is there already; name a folder that is not" in said


def test_nothing_is_left_where_a_report_could_not_be_written(
    rich_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("energylens.report.build.write_data", full)
    code, said = run(rich_path, "-o", tmp_path / "r")
    assert code == 1 and "make room on the disk" in said
    assert list(tmp_path.iterdir()) == []


@given(st.text(max_size=30))
def test_a_value_is_the_same_in_the_query_shown(value: str) -> None:
    value = "".join(sign for sign in value if sign != "\0" and not "\ud800" <= sign <= "\udfff")
    with duckdb.connect() as con:
        row = con.execute(f"SELECT {literal(value)}").fetchone()
    assert row == (value,)
    assert is_plain(literal(value))
