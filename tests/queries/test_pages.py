"""Pages of features: what they hold against the queries, and what data cannot do in them."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

import energylens
from energylens.cli import app
from energylens.queries.contexts import activation_samples, feature_contexts, feature_text_means
from energylens.queries.display import number, visible_token
from energylens.queries.face import OpenStore
from energylens.queries.pages.feature_data import (
    N_EACH,
    N_INTERVALS,
    N_TOP,
    FeatureData,
    feature_data,
)
from energylens.queries.pages.feature_pages import write_feature_folder, write_feature_page


@pytest.fixture(scope="module")
def opened(rich_path: Path) -> Iterator[OpenStore]:
    with energylens.open(str(rich_path)) as store:
        yield store


@pytest.fixture(scope="module")
def data(opened: OpenStore) -> list[FeatureData]:
    return feature_data(opened, opened.info().run_id, "one", range(16))


class Page(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        assert not {name for name in given if name.startswith("on")}
        self.links += [given["href"] or ""] if "href" in given else []
        self.values += [given["value"] or ""] if "value" in given else []

    def handle_data(self, data: str) -> None:
        self.text += data


def test_read_together_features_have_what_each_has_alone(
    data: list[FeatureData], opened: OpenStore
) -> None:
    assert [one.record.feature_id for one in data] == list(range(16))
    for one in data:
        assert feature_data(opened, opened.info().run_id, "one", [one.record.feature_id]) == [one]


def test_contexts_and_intervals_are_those_of_the_queries(
    data: list[FeatureData], opened: OpenStore
) -> None:
    for one in data:
        of = (opened, opened.info().run_id, "one", one.record.feature_id)
        rows = feature_contexts(*of, k=N_TOP)
        assert [(c.text_id, c.peak) for c in one.top] == list(rows["text_id", "activation"].rows())
        samples = activation_samples(*of, n_intervals=N_INTERVALS, k=N_EACH)
        drawn = [(i.n_tokens, c.text_id, c.peak) for i in one.intervals for c in i.contexts]
        assert drawn == list(samples["n_tokens", "text_id", "activation"].rows())
        for context in [*one.top, *(c for i in one.intervals for c in i.contexts)]:
            assert context.peak in [piece.activation for piece in context.pieces]


def test_every_text_a_feature_is_active_in_is_there(
    data: list[FeatureData], opened: OpenStore
) -> None:
    for one in data:
        means = feature_text_means(opened, opened.info().run_id, "one", one.record.feature_id)
        wanted = means.filter(means["n_active"] > 0)
        found = sorted((row["text_id"], row["mean_activation"]) for row in one.texts)
        assert found == sorted(wanted["text_id", "mean_activation"].rows())


def test_a_page_shows_values_and_loads_nothing(
    data: list[FeatureData], opened: OpenStore, tmp_path: Path
) -> None:
    one = max(data, key=lambda d: d.record.n_active)
    run = opened.info()
    sae = next(sae for sae in run.saes if sae.sae_id == "one")
    write_feature_page(opened, run, sae, one.record.feature_id, tmp_path / "x.html")
    html = (tmp_path / "x.html").read_text("utf-8")
    page = Page(html)
    assert not {"script", "img", "iframe", "object", "form"} & set(page.tags)
    assert page.links == ["data:,"] and "url(" not in html and "@import" not in html
    for context in one.top:
        for piece in context.pieces:
            if piece.activation is not None:
                assert number(piece.activation) in page.values
    for row in one.efas:
        assert f"{number(row['within_low'])} to {number(row['within_high'])}" in page.text
    counts = [int(said.split(": ")[1].split()[0].replace(",", "")) for said in page.values
              if said.endswith(" tokens")]  # fmt: skip
    (logits,) = one.logits
    own = one.record.histogram or []
    assert counts == own + logits["histogram"] and sum(own) == one.record.n_active
    assert f"skewness {number(logits['skewness'])}" in page.text


def test_a_folder_links_its_pages_and_only_those(opened: OpenStore, tmp_path: Path) -> None:
    run = opened.info()
    sae = next(sae for sae in run.saes if sae.sae_id == "one")
    told: list[tuple[int, int]] = []
    write_feature_folder(
        opened, run, sae, [5, 2, 9], tmp_path / "f", lambda *said: told.append(said)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    names = {path.name for path in (tmp_path / "f").iterdir()}
    assert names == {"index.html", "5.html", "2.html", "9.html"}
    linked = Page((tmp_path / "f" / "index.html").read_text("utf-8")).links
    assert linked == ["data:,", "5.html", "2.html", "9.html"]
    for name in names:
        found = set(Page((tmp_path / "f" / name).read_text("utf-8")).links)
        assert found <= {"data:,", *names}
    middle = Page((tmp_path / "f" / "2.html").read_text("utf-8")).links
    assert middle[1:4] == ["5.html", "index.html", "9.html"]


def test_scores_and_ratings_are_shown_where_there_are_any(
    opened: OpenStore, tmp_path: Path
) -> None:
    run = opened.info()
    sae = next(sae for sae in run.saes if sae.sae_id == "one")
    write_feature_folder(opened, run, sae, [3, 5], tmp_path / "f", lambda *_: None)
    rated, other = (Page((tmp_path / "f" / f"{n}.html").read_text("utf-8")).text for n in (3, 5))
    shown = re.sub(r"\s+", " ", rated)
    assert "even numberstoldtold by a file0.700" in shown
    assert re.search("Rated by people .*sum, 0 to 14 ada352111 bob242311 ", shown)
    assert "Rated by people" not in other and "told by a file" not in other


def test_the_strongest_token_stands_in_for_a_label_and_says_so(
    opened: OpenStore, tmp_path: Path
) -> None:
    run = opened.info()
    sae = next(sae for sae in run.saes if sae.sae_id == "one")
    unnamed = opened.sql(
        "SELECT f.feature_id, arg_max(t.token, c.activation) AS token FROM features AS f "
        "JOIN codes AS c USING (run_id, sae_id, feature_id) "
        "JOIN tokens AS t USING (run_id, token_index) "
        "WHERE f.sae_id = 'one' AND NOT t.is_masked AND f.feature_id NOT IN "
        "(SELECT feature_id FROM explanations WHERE sae_id = 'one') GROUP BY ALL ORDER BY ALL"
    )
    wanted = {3: None, **dict(unnamed.head(4).rows())}
    write_feature_folder(opened, run, sae, list(wanted), tmp_path / "f", lambda *_: None)
    html = (tmp_path / "f" / "index.html").read_text("utf-8")
    lines = [Page(line).text for line in html.split("<tr>")[2:]]
    assert len(lines) == len(wanted) == 5
    for line, (feature, token) in zip(lines, wanted.items(), strict=True):
        label = f"no label; strongest on {visible_token(token)}" if token else "even numbers"
        assert line.startswith(f"{feature}{label}"), line


def run(*args: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["page", *map(str, args)])
    return done.exit_code, re.sub(r"\s+", " ", done.output + done.stderr)


def test_the_command(rich_path: Path, tmp_path: Path) -> None:
    code, said = run(rich_path, "one", 3, "-o", tmp_path / "x.html")
    assert code == 0 and "feature 3 of 'one' is in" in said
    code, said = run(rich_path, "one", "--top", 4, "-o", tmp_path / "f")
    assert code == 0 and len(list((tmp_path / "f").iterdir())) == 5
    for wrong, answer in (
        (("one",), "which feature? its number comes last"),
        (("one", 10**6), "there is no feature 1000000"),
        (("onne", 3), "nearest: "),
        (("one", "--top", 0), "it cannot be 0"),
        (("one", "--top", 4, "--all"), "give one"),
        (("one", "--top", 4, "-o", tmp_path / "f"), "is there already"),
        (("one", 3, "-o", tmp_path / "no" / "x.html"), "cannot write"),
    ):
        code, said = run(rich_path, *wrong)
        assert code in (1, 2) and answer in said, said
        assert "Traceback" not in said and "unexpected" not in said
