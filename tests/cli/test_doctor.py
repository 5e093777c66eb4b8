"""The doctor: what it finds, that it never hangs, and that the pages it names are there."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from energylens.cli import app, doctor
from energylens.cli.doctor import installed, machine, surroundings
from energylens.cli.doctor.finding import Finding
from energylens.db.layout import StoreLayout
from energylens.tui.modals.too_small import SMALLEST
from tests.conftest import OLD_STORE
from tests.pages import anchors

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def without_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "_nats_apart", lambda: 1e-6)


def examined(*arguments: object, code: int = 0) -> dict[str, dict[str, Any]]:
    """The findings by their names."""
    done = CliRunner().invoke(app, ["doctor", *map(str, arguments), "-f", "json"])
    assert done.exit_code == code, done.output
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


def test_every_part_is_looked_at(without_model: None) -> None:
    found = examined()
    assert {row["part"] for row in found.values()} == {
        "machine", "terminal", "hub", "installed", "extras",
    }  # fmt: skip
    assert found["Hugging Face"]["state"] == "note"
    assert "HF_HUB_OFFLINE is set" in found["Hugging Face"]["found"]
    assert "GB" in found["memory"]["found"] and "torch" in found["models"]["found"]


def test_the_pages_it_names_are_there(without_model: None, tmp_path: Path) -> None:
    named = {row["page"] for row in examined(OLD_STORE).values()}
    named |= {row["page"] for row in examined(tmp_path / "none", code=1).values()}
    assert len(named) > 7
    for place in named:
        page, _, section = place.partition("#")
        assert (ROOT / page).is_file(), place
        assert not section or section in anchors(ROOT / page), place


def test_a_store_is_told_with_what_to_do(
    without_model: None, store_path: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(store_path, tmp_path / "a b.lens"))
    (run,) = StoreLayout(store).runs()
    fresh = examined(store)
    assert fresh[run.root.name]["state"] == "ok" and "fresh" in fresh[run.root.name]["found"]
    assert f"energylens verify '{store}'" in fresh[str(store)]["advice"]
    shutil.rmtree(run.index)
    stale = examined(store)[run.root.name]
    assert stale["state"] == "note" and stale["advice"] == f"energylens index '{store}'"
    shutil.rmtree(run.shard_directories()[0])
    assert "it goes on where it stopped" in examined(store)[run.root.name]["advice"]


@pytest.mark.parametrize("damage", ["none", "newer", "record"])
def test_a_store_that_cannot_be_opened_is_bad(
    damage: str, without_model: None, store_path: Path, tmp_path: Path
) -> None:
    store = tmp_path / "x.lens"
    if damage != "none":
        shutil.copytree(store_path, store)
    if damage == "newer":
        (store / "store.json").write_text('{"format": 999}\n')
    if damage == "record":
        StoreLayout(store).runs()[0].run_json.write_text("{}")
    assert examined(store, code=1)[str(store)]["state"] == "bad"


def test_a_model_that_does_not_run_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> float:
        raise ImportError("cannot import name 'x'")

    monkeypatch.setattr(installed, "_nats_apart", broken)
    found = examined(code=1)["bundled model"]
    assert "ImportError: cannot import name 'x'" in found["found"] and "pip" in found["advice"]
    for gap in (0.5, float("nan")):
        monkeypatch.setattr(installed, "_nats_apart", lambda gap=gap: gap)
        assert "disagrees" in examined(code=1)["bundled model"]["found"]


TERMS = ("xterm", "xterm-256color", "xterm-kitty", "tmux-256color", "linux", "dumb", "screen", "")
SYSTEMS = {"truecolor": "24 bits", "256": "256", "standard": "16", None: "none"}


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("more", [{}, {"COLORTERM": "truecolor"}, {"COLORTERM": "24bit"}])
def test_colours_are_those_the_screens_take(term: str, more: dict[str, str]) -> None:
    """By the library that draws the screens."""
    environment = {"TERM": term, **more}
    system = Console(_environ=environment, force_terminal=True, file=io.StringIO()).color_system
    assert surroundings.colours(environment)[0] == SYSTEMS[system]


def test_no_color_is_obeyed_whatever_it_holds() -> None:
    for value in ("", "1"):
        found = surroundings.colours({"TERM": "xterm-256color", "NO_COLOR": value})
        assert found[0].startswith("none, for NO_COLOR")


def test_the_least_size_is_that_of_the_screens() -> None:
    assert surroundings._LEAST == SMALLEST


def test_the_processor_is_read_as_linux_tells_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "_CPUINFO", told)
    told.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16\n\nflags : fpu avx2\n")
    found = machine._look_at_processor()
    assert "avx2 avx512_bf16" in found.found and "no bfloat16" not in found.found
    told.write_text("Features\t: fp asimd\n")
    assert "asimd; no bfloat16" in machine._look_at_processor().found
    told.unlink()  # as on macOS
    assert "bfloat16" not in machine._look_at_processor().found


def test_lines_fit_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    long = Finding("part", "name", surroundings.State.ok, "word " * 40, "docs/install.md")
    doctor._tell(long, is_first=True)
    said = capsys.readouterr().out
    assert said.count("word") == 40 and max(map(len, said.splitlines())) <= 60
