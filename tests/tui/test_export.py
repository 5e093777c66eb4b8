"""Files that the screens write: figures, pages, pictures, and what is asked and said of them."""

import io
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from textual.widgets import Input, OptionList

import energylens
from energylens.errors import UsageError
from energylens.queries.display import visible_token
from energylens.queries.overview import run_summaries
from energylens.queries.pages.feature_pages import write_feature_page
from energylens.report import screen
from energylens.report.build import write_report
from energylens.report.screen import screen_as_png
from energylens.tui.screens.feature import FeatureScreen
from tests.tui.conftest import Driver, Open

BOTH = pytest.mark.parametrize("size", ["small", "large", "60x15"])
VIEWS = {
    "1": ["sae_performance"],
    "2": ["density_and_l0"],
    "3": ["specialist_scores", "specialists_by_depth"],
    "4": ["efas_distribution"],
    "5": ["coactivation_clusters"],
    "6": ["routing_efficiency", "anchor_specialization", "routing_circuits"],
    "7": ["energy_by_layer"],
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory the program is started in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def report(rich_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the same store: where it draws a figure, and says why where it does not."""
    folder = tmp_path_factory.mktemp("reported") / "report"
    with energylens.open(rich_path) as opened:
        summary = run_summaries(opened._store)[0]
        write_report(opened, summary.info, summary.n_texts, folder, lambda _: None)
    return folder


async def choose(d: Driver, label: str) -> None:
    """Ask to export what is called so; its name is then asked for."""
    await d.press("e")
    options = d.app.screen.query_one(OptionList)
    labels = [str(option.prompt) for option in options.options]
    (place,) = [n for n, one in enumerate(labels) if one.startswith(label)]
    await d.press("home", *["down"] * place, "enter")


async def call_it(d: Driver, name: str) -> None:
    d.app.screen.query_one(Input).value = name
    await d.press("enter")


@pytest.mark.parametrize("view", VIEWS)
async def test_a_view_writes_the_figures_of_a_report(
    drive: Open, rich_path: Path, report: Path, here: Path, view: str
) -> None:
    async with drive("large", rich_path) as d:
        await d.press(view, "e")
        n = len(d.app.screen.query_one(OptionList).options)
        labels = [str(o.prompt) for o in d.app.screen.query_one(OptionList).options]
        assert sum("figure, " in label for label in labels) == 2 * len(VIEWS[view])
        first = next(k for k, label in enumerate(labels) if "figure, " in label)
        await d.press("escape")
        for place, name in enumerate(VIEWS[view]):
            for way, kind in enumerate(("svg", "png")):
                await d.press("e", *["down"] * (first + 2 * place + way), "enter", "enter")
                expected = report / "figures" / f"{name}.{kind}"
                if expected.exists():
                    await d.hears(f"the figure written to {here / name}-1.{kind}")
                    assert (here / f"{name}-1.{kind}").read_bytes() == expected.read_bytes()
                else:
                    await d.hears("there is no figure '")
                    assert not list(here.glob(f"{name}*"))
        assert n > first


async def test_a_landscape_is_drawn_of_the_text_in_view(
    drive: Open, store, run_id: str, here: Path
) -> None:
    async with drive("large") as d:
        await d.press("7", "enter")
        await choose(d, "svg: figure, energy of text")
        await d.press("enter")
        await d.hears("energy_landscape-1.svg")
        status = d.lines[-2]
    root = ElementTree.fromstring((here / "energy_landscape-1.svg").read_text("utf-8"))
    drawn = [e.text or "" for e in root.iter("{http://www.w3.org/2000/svg}text")]
    shown = [label for label in drawn[: drawn.index("token")] if "…" not in label]
    rows = store.cursor().execute(
        "SELECT text_id, list(token ORDER BY token_index) FROM tokens JOIN contexts "
        "USING (run_id, context_id) WHERE run_id = $run AND NOT is_special GROUP BY ALL",
        {"run": run_id},
    )
    fitting = [
        text for text, tokens in rows.fetchall()
        if [visible_token(token) for token in tokens if len(token) <= 12] == shown
    ]  # fmt: skip
    assert len(fitting) == 1 and f"text {fitting[0]}" in status


@BOTH
async def test_a_feature_writes_its_page(
    drive: Open, rich_path: Path, tmp_path: Path, here: Path, size: str
) -> None:
    async with drive(size, rich_path) as d:
        await d.press("2", "enter")
        assert isinstance(d.app.screen, FeatureScreen)
        place = d.app.screen.feature_in_view()
        assert place is not None
        await d.press("e")
        assert f"html: page of feature {place.feature_id}" in d.text
        await d.press("enter")
        assert f"feature-{place.feature_id}-1.html" in d.text
        await d.press("enter")
        written = here / f"feature-{place.feature_id}-1.html"
        await d.hears(f"the page written to {written}")
    with energylens.open(rich_path) as opened:
        sae = place.selection.sae
        other = tmp_path / "other.html"
        write_feature_page(opened, opened.info(), sae, place.feature_id, other)
    assert written.read_bytes() == other.read_bytes()


@BOTH
async def test_what_is_there_is_only_written_over_when_asked(
    drive: Open, rich_path: Path, here: Path, size: str
) -> None:
    (here / "mine.html").write_text("mine")
    async with drive(size, rich_path) as d:
        await d.press("2", "enter")
        await choose(d, "html")
        await call_it(d, "mine.html")
        assert "'mine.html' is there already" in d.text
        await d.press("enter")
        await d.hears("'mine.html' is as it was")
        await choose(d, "html")
        await call_it(d, "mine.html")
        await d.press("escape")
        assert (here / "mine.html").read_text() == "mine"
        await choose(d, "html")
        await call_it(d, "mine.html")
        await d.press("down", "enter")
        await d.hears(f"written to {here / 'mine.html'}")
    assert (here / "mine.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in here.iterdir()] == ["mine.html"]


async def test_esc_writes_nothing(drive: Open, rich_path: Path, here: Path) -> None:
    async with drive("small", rich_path) as d:
        await d.press("2", "e", "escape", "e", "enter", "escape")
        assert not d.app._notifications and not list(here.iterdir())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no/x.csv", "cannot write 'no/x.csv': No such file"),
        ("taken/x.csv", "cannot write 'taken/x.csv': "),
        ("", "is a folder"),
        ("..", "is a folder"),
        ("~nobody-of-this-name/x.csv", "cannot write '~nobody-of-this-name/x.csv': "),
        ("x" * 300, "cannot write 'xxx"),
    ],
)
async def test_where_nothing_can_be_written_is_said(
    drive: Open, rich_path: Path, here: Path, name: str, said: str
) -> None:
    (here / "taken").write_text("a file")
    async with drive("small", rich_path) as d:
        await d.press("2")
        await choose(d, "csv")
        await call_it(d, name)
        await d.hears(said)
    assert [path.name for path in here.iterdir()] == ["taken"]


async def test_a_home_is_found(
    drive: Open, rich_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with drive("small", rich_path) as d:
        await d.press("2")
        await choose(d, "csv")
        await call_it(d, "~/rows.csv")
        await d.hears(f"40 rows written to {tmp_path / 'rows.csv'}")
    assert (tmp_path / "rows.csv").read_text().startswith("feature_id,")


async def test_without_the_extra_it_says_what_to_install(
    drive: Open, rich_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("energylens.report.extra.find_spec", lambda _: None)
    async with drive("small", rich_path) as d:
        await d.press("7")
        await choose(d, "svg: figure")
        await d.press("enter")
        await d.hears("this needs the extra 'report'")
        for kind in ("svg", "png"):
            d.app.clear_notifications()
            await choose(d, f"{kind}: the screen")
            await d.press("enter")
            await d.hears("the screen written to")
    assert sorted(path.name for path in here.iterdir()) == ["energy-1.png", "energy-1.svg"]


SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="300" height="40">
<text x="0" y="30" font-family="Fira Code" font-size="30">%s</text></svg>"""


def drawn_columns(text: str) -> int:
    """Columns of the picture of a text up to the last one with ink."""
    picture = matplotlib.image.imread(io.BytesIO(screen_as_png(SVG % text)))
    return int(np.flatnonzero(picture[:, :, 3].any(axis=0)).max())


def test_the_font_of_a_picture_is_of_even_width() -> None:
    assert abs(drawn_columns("iiiiiiiiM") - drawn_columns("MMMMMMMMM")) < 1


def test_a_machine_without_a_font_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "_PLACES", (str(tmp_path),))
    monkeypatch.setattr(screen, "find_spec", lambda _: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match="no font of even width"):
        screen_as_png(SVG % "x")


async def test_a_picture_of_the_screen_is_the_screen(
    drive: Open, rich_path: Path, here: Path
) -> None:
    async with drive("small", rich_path) as d:
        await d.press("5")
        words = {word for word in d.lines[0].split() if word.isalpha()}
        for kind in ("svg", "png"):
            await choose(d, f"{kind}: the screen")
            await d.press("enter")
            await d.hears(f"coactivation-1.{kind}")
    svg = (here / "coactivation-1.svg").read_text("utf-8")
    assert words and all(f">{word}" in svg or word in svg for word in words)
    assert "Export" not in svg, "the dialog is not in it"
    assert (here / "coactivation-1.png").read_bytes().startswith(b"\x89PNG")


async def test_a_model_without_routers_has_no_figure_of_them(drive: Open, here: Path) -> None:
    async with drive("large") as d:
        await d.press("6")
        await choose(d, "png: figure, routing circuits")
        await d.press("enter")
        await d.hears("there is no figure 'Routing circuits': the model has no routers")
    assert not list(here.iterdir())
