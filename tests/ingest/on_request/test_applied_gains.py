"""Gains from a file, in prompts and interventions: against an ablation, and refused where they do
not belong."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from energylens.db.store import open_store
from energylens.errors import UsageError
from energylens.ingest.on_request.intervene import intervene
from energylens.ingest.on_request.prompt import prompt
from energylens.ingest.on_request.reopen import Reopened, reopen
from energylens.lens.gains import Gains, about, gains_bytes
from energylens.protocol import EditRequest, InterventionRequest, PromptRequest

TEXT = "the cat sat on a mat"


@pytest.fixture(scope="module")
def reopened(rich_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Reopened:
    path = Path(shutil.copytree(rich_path, tmp_path_factory.mktemp("gains") / "x.lens"))
    with open_store(path) as store:
        return reopen(path, store.runs[0].info.run_id)


def written(reopened: Reopened, folder: Path, gain: float, **other: str) -> str:
    made = about(reopened.model, reopened.sae("two")) | other
    path = folder / "x.safetensors"
    path.write_bytes(gains_bytes(Gains((3, 7), (gain, gain), made)))
    return str(path)


def asked(gains: str, keep: bool = False) -> InterventionRequest:
    return InterventionRequest(TEXT, EditRequest("", (), gains=gains), keep=keep)


def test_gains_of_minus_one_ablate_in_prompts_too(reopened: Reopened, tmp_path: Path) -> None:
    path = written(reopened, tmp_path, -1.0)
    found = intervene(reopened, asked(path))
    edit = EditRequest("two", (3, 7), "ablate")
    wanted = intervene(reopened, InterventionRequest(TEXT, edit, keep=False))
    for mine, theirs in zip(found.conditions, wanted.conditions, strict=True):
        assert mine.feature_ids == theirs.feature_ids, mine.name
        assert np.allclose(energies(mine.energies), energies(theirs.energies), atol=1e-5)
    read = prompt(reopened, PromptRequest(TEXT, gains=path)).reading
    with_gains = energies([token.energy for token in read.tokens])
    assert np.allclose(with_gains, energies(found.conditions[1].energies), atol=1e-5)
    plain = prompt(reopened, PromptRequest(TEXT)).reading
    assert not np.allclose(with_gains, energies([token.energy for token in plain.tokens]))


def energies(values: list[float | None]) -> np.ndarray:
    return np.array([value for value in values if value is not None])


def test_a_kept_run_tells_which_gains_it_had(reopened: Reopened, tmp_path: Path) -> None:
    first = intervene(reopened, asked(written(reopened, tmp_path, 0.3), keep=True)).kept_as
    path = written(reopened, tmp_path, -0.3)
    again = intervene(reopened, asked(path, keep=True)).kept_as
    read = prompt(reopened, PromptRequest(TEXT, keep=True, gains=path)).kept_as
    assert first and again and read and len({first, again, read}) == 3, "other gains, another run"
    with open_store(reopened.store) as store:
        for kept in (first, again, read):
            assert f'"{path} sha256:' in str(store.run(kept).info.settings)
        assert '"sae_id":"two"' in str(store.run(again).info.settings).replace(" ", "")


def test_gains_for_another_model_or_sae_are_refused(reopened: Reopened, tmp_path: Path) -> None:
    refused = {
        "another model: 'other'": {"model_sha256": "0", "model": "other"},
        "no SAE of the run": {"sae_sha256": "0", "sae_id": "elsewhere"},
        "with other hook_name": {"hook_name": "blocks.0.hook_resid_post"},
    }
    for said, other in refused.items():
        path = written(reopened, tmp_path, 0.3, **other)
        for ask in (
            lambda path=path: intervene(reopened, asked(path)),
            lambda path=path: prompt(reopened, PromptRequest(TEXT, gains=path)),
        ):
            with pytest.raises(UsageError, match=said):
                ask()
    both = asked(written(reopened, tmp_path, 0.3))
    with pytest.raises(UsageError, match="features or gains, not both"):
        intervene(reopened, replace(both, edit=replace(both.edit, feature_ids=(3,))))
