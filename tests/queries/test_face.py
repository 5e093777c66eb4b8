"""The store in Python: what it shows, what it answers, what it says where it cannot."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import energylens
from energylens.db.store import Store
from energylens.errors import QueryError, StoreError, UnknownNameError, UsageError
from energylens.queries.card import CardContext, FeatureCard, Piece
from energylens.queries.catalog import call
from energylens.queries.face import OpenStore
from energylens.queries.features import best_features, feature
from energylens.queries.shading import digit, shade_rgb


@pytest.fixture
def opened(rich_path: Path) -> Iterator[OpenStore]:
    with energylens.open(str(rich_path)) as store:
        yield store


def test_the_import_loads_nothing_and_opening_no_torch(rich_path: Path) -> None:
    program = (
        "import sys, energylens\n"
        "assert {m for m in sys.modules if m.startswith('energylens')} == {'energylens'}\n"
        f"print(energylens.open({str(rich_path)!r}).feature(3, 'one').record.feature_id)\n"
        "assert not {'torch', 'textual', 'rich'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "3\n"


def test_names_of_the_package() -> None:
    assert set(energylens.__all__) <= set(dir(energylens))
    assert energylens.UnknownNameError is UnknownNameError
    assert "store.feature" in (energylens.open.__doc__ or "")
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        energylens.opne  # type: ignore[attr-defined]  # noqa: B018


def test_a_store_shows_its_runs_and_saes(opened: OpenStore, rich_run: str) -> None:
    for shown in (repr(opened), opened._repr_html_()):
        for part in (rich_run, "40 texts", "blocks.0.hook_resid_post", "index fresh", "mlp"):
            assert part in shown
    assert opened.runs["run_id"].to_list() == [rich_run]
    assert sorted(opened.saes["sae_id"]) == ["mlp", "one", "two"]
    assert opened.info().run_id == rich_run


def test_sql_gives_every_row_and_only_reads(opened: OpenStore, rich: Store) -> None:
    (n,) = rich.cursor().execute("SELECT count(*) FROM codes").fetchone() or (0,)
    assert n > 10_000 and len(opened.sql("SELECT token_index FROM codes")) == n
    with pytest.raises(QueryError):
        opened.sql("DROP VIEW codes")
    with pytest.raises(QueryError):
        opened.sql("SELECT * FROM '/etc/passwd'")


def test_named_queries_and_typed_functions_take_it(opened: OpenStore, rich: Store) -> None:
    expected = call(rich, "best_features", sae="one")
    assert opened.query("best_features", sae="on").equals(expected)
    assert best_features(opened, None, "one").equals(expected)
    with pytest.raises(UnknownNameError, match="nearest: two"):
        opened.query("best_features", sae="tow")


def test_a_card_tells_the_facts_and_shades_by_activation(opened: OpenStore, rich: Store) -> None:
    card = opened.feature(3, "one", k=4)
    assert card.record == feature(rich, None, "one", 3)
    assert card.explanations[0] == "even numbers" and "even numbers" in card.as_text()
    strongest = card.record.max_activation or 0.0
    peaks = [context.peak for context in card.contexts]
    assert len(peaks) == 4 and peaks == sorted(peaks, reverse=True)
    for context in card.contexts:
        active = [p for p in context.pieces if p.activation is not None]
        assert context.peak in [p.activation for p in active]  # masked tokens may be above it
        for piece in active:
            assert piece.share == pytest.approx(min((piece.activation or 0.0) / strongest, 1.0))
    expected = opened.sql(
        "SELECT count(*) AS n FROM codes WHERE sae_id = 'one' AND feature_id = 3 AND "
        "token_index // 16 = (SELECT context_id FROM top_contexts WHERE sae_id = 'one' "
        "AND feature_id = 3 AND rank = 0)"
    )["n"][0]
    assert sum(p.activation is not None for p in card.contexts[0].pieces) == expected


def test_a_card_of_a_silent_feature_says_so(opened: OpenStore) -> None:
    card = opened.feature(3, "one")
    silent = replace(card, record=replace(card.record, n_active=0), contexts=())
    for told in (silent.as_text(), silent.as_html()):
        assert "silent" in told and "on 0 tokens" not in told


class _Tags(HTMLParser):
    """The tags and the text of HTML."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_what_comes_from_data_is_escaped(opened: OpenStore) -> None:
    bad = "<script>alert('x')</script>\x1b[31m"
    found = opened.feature(3, "one")
    pieces = (Piece(bad, False, 1.0, 1.0), Piece(bad, True, None, 0.0))
    card = replace(
        found,
        record=replace(found.record, sae_id=bad, run_id=bad, top_category=bad),
        explanations=(bad,), promoted=(bad,), suppressed=(bad,),
        contexts=(CardContext(1, bad, 1.0, pieces, True, True),),
    )  # fmt: skip
    page = _Tags(card.as_html())
    assert page.tags <= {"div", "strong", "table", "tr", "th", "td", "p", "small", "data", "i"}
    assert page.text.count("<script>alert('x')</script>") == 9
    assert "\x1b" not in card.as_html() + card.as_text()


def test_shades_are_colours_and_digits(opened: OpenStore) -> None:
    pieces = (
        Piece("a", False, 1.0, 1.0),
        Piece("b", False, None, 0.0),
        Piece("c", False, 0.1, 0.1),
    )
    card = replace(
        opened.feature(3, "one"), contexts=(CardContext(0, None, 1.0, pieces, False, False),)
    )
    assert card.as_text().splitlines()[-1] == "  a⁹bc¹"
    paper, ink = shade_rgb(1.0)
    coloured = card.as_text(with_colour=True)
    assert (
        f"\x1b[48;2;{';'.join(map(str, paper))}m\x1b[38;2;{';'.join(map(str, ink))}ma⁹" in coloured
    )
    assert digit(0.0) == "¹" and shade_rgb(-1.0) == shade_rgb(0.0)


def test_colours_only_where_a_terminal_has_them(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    card: FeatureCard = opened.feature(3, "one")
    assert "\x1b" not in repr(card)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[48" in repr(card)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in repr(card)


def test_what_cannot_be_had_is_said(opened: OpenStore, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="say which sae"):
        opened.feature(3)
    with pytest.raises(UnknownNameError, match="features 0 to 47"):
        opened.feature(48, "one")
    with pytest.raises(UsageError, match="cannot be -1"):
        opened.feature(3, "one", k=-1)
    with pytest.raises(StoreError, match="no store at"):
        energylens.open(tmp_path / "none.lens")
    opened.close()
    opened.close()
    assert repr(opened).endswith("closed") and "closed" in opened._repr_html_()
    with pytest.raises(StoreError, match="opens it again"):
        opened.sql("SELECT 1")


def test_ink_is_legible_on_every_shade() -> None:
    """A contrast of at least 4.5 by the formula of WCAG 2.2, and more luminance for more."""

    def luminance(rgb: tuple[int, int, int]) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
                  for v in (c / 255 for c in rgb)]  # fmt: skip
        return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    shades = [shade_rgb(place / 1000) for place in range(1001)]
    for paper, ink in shades:
        low, high = sorted((luminance(paper), luminance(ink)))
        assert (high + 0.05) / (low + 0.05) >= 4.5
    papers = [luminance(paper) for paper, _ in shades[::100]]
    assert papers == sorted(papers)
