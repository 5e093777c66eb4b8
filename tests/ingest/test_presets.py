"""Presets: those that come along name what there is, and a user's own are read, never obeyed."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
from typer.testing import CliRunner

from energylens.builtin import PRESETS, builtin_names
from energylens.cli import app
from energylens.db.layout import StoreLayout
from energylens.db.provenance import read_run
from energylens.errors import UnknownNameError, UsageError
from energylens.hub import model_repository
from energylens.ingest import presets
from energylens.ingest.presets import find_preset, own_folder, read_preset
from energylens.ingest.presets import presets as listed
from tests.conftest import N_CTX

BUNDLED = ("gemma-scope-2-270m", "gemma-scope-2b", "gpt2-res-jb", "llama-scope-8b", "pythia-70m",
           "smollm2-135m-gguf")  # fmt: skip
NAMED_OTHERWISE = {"gpt2-small": "gpt2"}
"""Models that the registry of sae-lens has under another name than the hub."""


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A configuration folder of the test's own, with a folder for presets."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(presets, "user_folder", lambda: tmp_path / "config" / "energylens")
    own_folder().mkdir(parents=True)
    return own_folder()


def run(*arguments: object, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_those_that_come_along() -> None:
    assert tuple(one.name for one in listed()) == BUNDLED
    assert {path.stem for path in PRESETS.iterdir()} == set(BUNDLED)


@pytest.mark.parametrize("name", BUNDLED)
def test_saes_are_in_the_registry_of_sae_lens_and_were_made_for_the_model(name: str) -> None:
    found = find_preset(name)
    assert found.model is not None and model_repository(found.model) is not None
    assert found.texts in builtin_names("texts")
    registry = get_pretrained_saes_directory()
    for source in found.saes or ():
        release, _, sae_id = source.partition("/")
        entry = registry[release]
        assert sae_id in entry.saes_map, source
        model = NAMED_OTHERWISE.get(entry.model, entry.model)
        assert model.rpartition("/")[2] == found.model.rpartition("/")[2]


def test_gpt2_is_read_at_the_layers_that_are_asked_for() -> None:
    found = find_preset("gpt2-res-jb")
    assert found.saes is not None
    assert [s.split(".")[1] for s in found.saes] == ["6", "8", "10", "11"]


def test_a_name_is_never_a_path(own: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.toml").write_text('about = "x"\n')
    outside = os.path.relpath(tmp_path / "secret", own)
    for name in (outside, str(tmp_path / "secret"), "..", "", "\0", "a\0b", "*", "GPT2-RES-JB"):
        with pytest.raises(UnknownNameError, match="there is no preset"):
            find_preset(name)


@pytest.mark.parametrize("name", ["GPT", ".hidden", "-x", "a b", "x" * 65, "é", "..", "a\nb"])
def test_files_of_odd_names_are_none(own: Path, name: str) -> None:
    (own / f"{name}.toml").write_text('about = "x"\n')
    assert tuple(one.name for one in listed()) == BUNDLED


def test_a_wrong_name_tells_the_nearest() -> None:
    said = run("ingest", "x.lens", "--preset", "gpt2-rs-jb", code=2).stderr
    assert "nearest: gpt2-res-jb" in said


def test_ones_own_hides_one_that_came_along(own: Path) -> None:
    (own / "gpt2-res-jb.toml").write_text('about = "mine"\nmodel = "gpt2-xl"\n')
    assert find_preset("gpt2-res-jb").model == "gpt2-xl"
    shown = run("presets").stdout
    assert "gpt2-res-jb (your own)\n    mine" in shown


WRONG = {
    "another field": 'about = "x"\nmodle = "m"\n',
    "no line about it": 'model = "m"\n',
    "a number for a name": 'about = "x"\nmodel = 3\n',
    "a text for a list": 'about = "x"\nsaes = "one"\n',
    "a number in a list": 'about = "x"\nsaes = [1]\n',
    "no number of tokens": 'about = "x"\nn_ctx = 0\n',
    "no batch": 'about = "x"\nbatch_tokens = -1\n',
    "no TOML": "about = \n",
    "nested deeply": "about = " + "[" * 100_000,
    "a number of 5,000 digits": f'about = "x"\nn_ctx = {"9" * 5000}\n',
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_what_is_no_preset_is_told_and_hides_no_other(own: Path, content: str) -> None:
    (own / "bad.toml").write_text(content)
    with pytest.raises(UsageError, match=r"bad\.toml' (is no preset|cannot be read)"):
        find_preset("bad")
    done = run("presets", "-f", "json", code=2)
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == list(BUNDLED)
    assert "bad.toml" in done.stderr
    assert "--model gpt2" in run("presets", "gpt2-res-jb").stdout


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: p.symlink_to(p)])
def test_what_is_no_file_is_told_and_not_waited_for(
    own: Path, make: Callable[[Path], None]
) -> None:
    make(own / "bad.toml")
    with pytest.raises(UsageError, match=r"bad\.toml"):
        find_preset("bad")


def test_no_folder_of_ones_own_is_well(own: Path) -> None:
    own.rmdir()
    assert len(listed()) == len(BUNDLED)
    own.write_text("a file in its place")
    assert len(listed()) == len(BUNDLED)


@pytest.fixture
def tiny(own: Path, gpt2_dir: Path, texts_dir: Path, saes_dir: Path) -> None:
    """A preset whose names are hostile where they may be."""
    (own / "tiny.toml").write_text(
        f'about = "[bold]tiny[/] \\u001b[31m"\nmodel = {json.dumps(str(gpt2_dir))}\n'
        f"texts = {json.dumps(str(texts_dir))}\n"
        f"saes = [{json.dumps(str(saes_dir / 'resid'))}]\n"
        'energies = "output"\nn_ctx = 8\nbos = true\nneeds = ["nothing; rm -rf /"]\n'
    )


def test_a_preset_is_ingested_and_options_change_it(tiny: None, tmp_path: Path) -> None:
    def made(store: str, *options: object) -> Any:
        run("ingest", tmp_path / store, "--preset", "tiny", "--no-index", *options)
        (layout,) = StoreLayout(tmp_path / store).runs()
        return read_run(layout.run_json)

    plain = made("one.lens")
    assert (plain.n_ctx, plain.prepend_bos, len(plain.saes)) == (8, True, 1)
    assert plain.lens_layers == []
    changed = made("two.lens", "--n-ctx", 6, "--energies", "all", "--no-bos", "--accept-gate")
    assert (changed.n_ctx, changed.prepend_bos, len(changed.saes)) == (6, False, 1)
    assert len(changed.lens_layers) == changed.n_layers + 1


def test_a_list_of_options_takes_the_place_of_the_presets(
    tiny: None, tmp_path: Path, saes_dir: Path
) -> None:
    chosen = ("--sae", saes_dir / "mlp", "--no-index", "--n-ctx", N_CTX)
    run("ingest", tmp_path / "x.lens", "--preset", "tiny", *chosen)
    (layout,) = StoreLayout(tmp_path / "x.lens").runs()
    assert [sae.sae_id for sae in read_run(layout.run_json).saes] == ["mlp"]


def test_the_command_it_stands_for_is_shown(tiny: None, saes_dir: Path) -> None:
    shown = run("presets", "tiny").stdout
    for said in ("energylens ingest tiny.lens", "--n-ctx 8", "--bos", "--energies output",
                 f"--sae {saes_dir / 'resid'}", "# needs nothing; rm -rf /"):  # fmt: skip
        assert said in shown


def test_without_model_or_texts_it_says_what_to_give(own: Path) -> None:
    assert "say which model" in run("ingest", "x.lens", "--texts", "t", code=2).stderr
    assert "say which texts" in run("ingest", "x.lens", "--model", "m", code=2).stderr
    (own / "half.toml").write_text('about = "x"\nmodel = "builtin:llama"\n')
    assert "say which texts" in run("ingest", "x.lens", "--preset", "half", code=2).stderr


def test_every_field_is_an_option_of_ingest() -> None:
    from energylens.cli.ingest import ingest

    renamed = {"saes": "sae", "hooks": "hook"}
    fields = {renamed.get(f, f) for f in presets.Preset.__struct_fields__} - {"about", "needs"}
    not_of_a_preset = {
        "store", "preset", "shard", "run_id", "accept_gate", "no_index", "estimate", "as_json",
        "return",
    }  # fmt: skip
    assert fields == set(ingest.__annotations__) - not_of_a_preset


def test_what_comes_along_is_read_as_any_other() -> None:
    for one in listed():
        assert read_preset(one).about and not one.is_own
