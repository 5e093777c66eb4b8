"""Two SAEs of one name in one run: each has a name of its own, and both are found again."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from energylens.db.layout import StoreLayout
from energylens.db.merge import merge_stores
from energylens.db.provenance import RunInfo, read_run
from energylens.db.store import open_store
from energylens.db.verify import verify_store
from energylens.errors import StoreError, UsageError
from energylens.ingest.index.build import build_indexes
from energylens.ingest.names import named_apart
from energylens.ingest.on_request.additions import add_sae, add_vectors
from energylens.ingest.on_request.another_gradient import add_variant
from energylens.ingest.on_request.prompt import prompt
from energylens.ingest.on_request.reopen import reopen
from energylens.ingest.plan import IngestConfig, load
from energylens.ingest.progress import Progress
from energylens.lens.saes import load_saes
from energylens.protocol import PromptRequest
from tests.conftest import make_sae, make_store

HOOK = "blocks.1.hook_resid_post"


def save(folder: Path, d_sae: int, kind: str = "standard") -> Path:
    make_sae(kind, HOOK, d_sae=d_sae).save_model(folder)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SAE in a folder of the name that one of the stores' SAEs has."""
    return save(tmp_path_factory.mktemp("other") / "resid", 40)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory, config: IngestConfig, other: Path) -> Path:
    """A store whose run has an SAE of another's name added to it."""
    path = tmp_path_factory.mktemp("taken") / "x.lens"
    run_id = make_store(path, config, with_index=False)
    add_vectors(path, run_id, "activations", HOOK, Progress())
    add_sae(path, run_id, str(other), True, Progress())
    build_indexes(path, Progress())
    return path


def the_run(path: Path) -> RunInfo:
    (run,) = StoreLayout(path).runs()
    return read_run(run.run_json)


def test_an_added_sae_of_a_taken_name_is_named_after_its_weights(taken: Path, other: Path) -> None:
    (sae,) = load_saes([str(other)])
    names = [info.sae_id for info in the_run(taken).saes]
    assert names == ["mlp", "resid", f"resid-{sae.weights_sha256[:6]}"]
    again = add_sae(taken, the_run(taken).run_id, str(other), True, Progress())
    assert again == (names[2], 0), "the very same one is there already"
    assert [info.sae_id for info in the_run(taken).saes] == names
    with open_store(taken) as store:
        found = store.cursor().execute("SELECT DISTINCT sae_id FROM codes ORDER BY 1").fetchall()
        logits = store.cursor().execute("SELECT DISTINCT sae_id FROM feature_logits").fetchall()
    assert [name for (name,) in found] == names
    assert len(logits) == 3
    assert verify_store(taken) == []


def test_everything_that_loads_a_run_again_finds_both(taken: Path, other: Path) -> None:
    run = the_run(taken)
    reopened = reopen(taken, run.run_id)
    assert [sae.sae_id for sae in reopened.instruments.saes] == [info.sae_id for info in run.saes]
    assert reopened.sae("resid").d_sae == 48 and reopened.sae(run.saes[2].sae_id).d_sae == 40
    read = prompt(reopened, PromptRequest("Fish.")).reading
    assert {feature.sae_id for feature in read.features} == {info.sae_id for info in run.saes}
    add_variant(taken, run.run_id, run.saes[2].sae_id, "own", Progress())
    with open_store(taken) as store:
        variants = store.cursor().execute(
            "SELECT DISTINCT variant FROM efas WHERE sae_id = $sae", {"sae": run.saes[2].sae_id}
        )
        assert "own" in {name for (name,) in variants.fetchall()}


def test_two_saes_of_one_name_are_ingested_under_two(
    config: IngestConfig, saes_dir: Path, other: Path
) -> None:
    both = (str(saes_dir / "resid"), str(other))
    names = [s.sae_id for s in load(replace(config, saes=both)).instruments.saes]
    assert names[0] == "resid" and names[1].startswith("resid-")
    with pytest.raises(UsageError, match="given twice"):
        load(replace(config, saes=(both[0], both[0])))


def test_the_same_sae_in_two_folders_of_one_name_is_given_twice(
    config: IngestConfig, saes_dir: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(saes_dir / "resid", tmp_path / "resid"))
    with pytest.raises(UsageError, match="the same"):
        load(replace(config, saes=(str(saes_dir / "resid"), str(copy))))


def test_names_that_would_share_a_file_are_told_apart(tmp_path: Path) -> None:
    names = ("Abc", "abc", "\u1f600", "\U0001f600", "abc")
    saes = [
        replace(load_saes([str(save(tmp_path / str(i), 30 + i))])[0], sae_id=name)
        for i, name in enumerate(names)
    ]
    ids = [sae.sae_id for sae in named_apart(saes)]
    assert ids[0] == "Abc" and ids[2] == names[2]
    assert [len(i) for i in ids] == [3, 10, 2, 8, 10]
    assert len(set(ids)) == 5


def reasons(path: Path) -> Sequence[str]:
    """What those who load a run again say where something is not what it was."""
    run = the_run(path)
    said = []
    for ask in (
        lambda: reopen(path, run.run_id),
        lambda: add_variant(path, run.run_id, "resid", "own", Progress()),
        lambda: add_vectors(path, run.run_id, "gradients", HOOK, Progress()),
    ):
        with pytest.raises(UsageError) as error:
            ask()
        said.append(str(error.value))
    return said


@pytest.mark.parametrize("what", ["model", "tokenizer"])
def test_a_model_that_changed_is_named_alike_by_all(
    tmp_path: Path, config: IngestConfig, taken: Path, gpt2_dir: Path, what: str
) -> None:
    path = Path(shutil.copytree(taken, tmp_path / "x.lens"))
    record = StoreLayout(path).runs()[0].run_json
    changed = replace(the_run(path), **{f"{what}_sha256": "0" * 64})
    from energylens.db.provenance import write_run

    write_run(record, changed)
    for said in reasons(path):
        assert f"the {what} of the run" in said and f"'{gpt2_dir}' now" in said


def test_an_sae_that_changed_is_named_and_its_weights_are_left_out(
    tmp_path: Path, config: IngestConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save(tmp_path / "saes/one", 48)
    path = tmp_path / "x.lens"
    run_id = make_store(path, replace(config, saes=(str(folder),), accept_gate=True))
    save(folder, 40)
    said = f"the SAE 'one' of the run '{run_id}' is not what lies at '{folder}' now"
    with pytest.raises(UsageError, match=said):
        reopen(path, run_id)
    with pytest.raises(UsageError, match=said):
        add_variant(path, run_id, "one", "own", Progress())
    capsys.readouterr()
    build_indexes(path, Progress(), run_id)
    assert said in capsys.readouterr().err


def test_additions_are_merged_wherever_they_stand(
    tmp_path: Path, taken: Path, config: IngestConfig, other: Path
) -> None:
    """The target has an addition of its own, so that the source's get other numbers."""
    run_id = the_run(taken).run_id
    target = tmp_path / "y.lens"
    assert make_store(target, config, with_index=False) == run_id
    add_vectors(target, run_id, "activations", "blocks.2.hook_mlp_out", Progress())
    merge_stores(target, [taken])
    merged = the_run(target)
    assert [info.sae_id for info in merged.saes] == [info.sae_id for info in the_run(taken).saes]
    assert merged.additions == [
        "activations blocks.2.hook_mlp_out",
        *the_run(taken).additions,
    ]
    build_indexes(target, Progress())
    assert verify_store(target) == []
    with open_store(target) as a, open_store(taken) as b:
        counts = [s.cursor().execute("SELECT count(*) FROM codes").fetchall() for s in (a, b)]
    assert counts[0] == counts[1]
    assert merge_stores(target, [taken]) == {run_id: 0}


def test_one_name_for_two_saes_does_not_merge(
    tmp_path: Path, config: IngestConfig, taken: Path
) -> None:
    stores = []
    for name, d_sae in (("a", 40), ("b", 44)):
        path = tmp_path / f"{name}.lens"
        run_id = make_store(path, config, with_index=False)
        add_vectors(path, run_id, "activations", HOOK, Progress())
        add_sae(path, run_id, str(save(tmp_path / name / "late", d_sae)), True, Progress())
        stores.append(path)
    with pytest.raises(StoreError, match=r"'late' is one SAE in .* energylens recompute .* --sae"):
        merge_stores(stores[0], [stores[1]])
    assert verify_store(stores[0]) == []
