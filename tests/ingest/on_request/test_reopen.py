"""Texts run on request: the same numbers as an ingest, kept as runs like any other."""

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from energylens.db.layout import StoreLayout
from energylens.db.records import sealed
from energylens.db.store import open_store
from energylens.db.verify import verify_store
from energylens.errors import UsageError
from energylens.ingest.on_request.attribute import attribute
from energylens.ingest.on_request.intervene import intervene
from energylens.ingest.on_request.prompt import prompt
from energylens.ingest.on_request.reopen import Reopened, reopen, reopen_texts
from energylens.ingest.on_request.steer import steer
from energylens.ingest.progress import Progress
from energylens.protocol import (
    AttributionRequest,
    EditRequest,
    InterventionRequest,
    PromptRequest,
    SteeringRequest,
)
from tests.conftest import TEXTS

TEXT = TEXTS["numbers"][0]


@pytest.fixture(scope="module")
def path(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of its own, since runs are added to it."""
    copy = tmp_path_factory.mktemp("reopened") / "x.lens"
    shutil.copytree(store_path, copy)
    return copy


@pytest.fixture(scope="module")
def reopened(path: Path) -> Reopened:
    with open_store(path) as store:
        run_id = store.runs[0].info.run_id
    return reopen(path, run_id)


def rows(path: Path, sql: str, **names: object) -> pl.DataFrame:
    with open_store(path) as store:
        return pl.DataFrame(store.cursor().sql(sql, params=names).to_arrow_table())


def short(reopened: Reopened) -> str:
    """A text that fits one context."""
    return TEXT[:12]


def test_a_prompt_reads_what_the_ingest_stored(path: Path, reopened: Reopened) -> None:
    found = prompt(reopened, PromptRequest("Fish.", top=100)).reading
    names = {"run": reopened.run.run_id, "text": "Fish."}
    stored = rows(
        path,
        "SELECT t.* FROM tokens AS t JOIN contexts AS c USING (run_id, context_id) "
        "JOIN texts AS x USING (run_id, text_id) WHERE t.run_id = $run AND x.text = $text "
        "ORDER BY t.token_index",
        **names,
    )
    assert [t.vocab_id for t in found.tokens] == stored["vocab_id"].to_list()
    assert [t.energy for t in found.tokens] == pytest.approx(stored["energy"].to_list(), abs=1e-5)
    first = int(stored["token_index"][0])
    codes = rows(
        path,
        "SELECT sae_id, token_index - $first AS pos, feature_id, activation FROM codes "
        "WHERE run_id = $run AND token_index >= $first AND token_index < $first + $n "
        "ORDER BY sae_id, pos, activation DESC, feature_id",
        run=reopened.run.run_id, first=first, n=len(stored),
    )  # fmt: skip
    mine = pl.DataFrame([f.__dict__ for f in found.features])
    joined = mine.join(codes, on=["sae_id", "pos", "feature_id"], how="full", suffix="_stored")
    assert len(joined) == len(codes) == len(mine)
    assert (joined["activation"] - joined["activation_stored"]).abs().max() < 1e-4  # type: ignore
    assert (
        len(found.layers)
        == len(found.tokens[0].energies)
        == len(found.tokens[0].continuations)
        == reopened.model.n_layers + 1
    )


def test_only_the_strongest_features_are_reported(reopened: Reopened) -> None:
    every = prompt(reopened, PromptRequest("Fish.", top=100)).reading.features
    one = prompt(reopened, PromptRequest("Fish.", top=1)).reading.features
    for feature in one:
        rivals = [f for f in every if (f.sae_id, f.pos) == (feature.sae_id, feature.pos)]
        assert feature.activation == max(f.activation for f in rivals)


def test_two_prompts_are_read_beside_each_other(reopened: Reopened) -> None:
    found = prompt(reopened, PromptRequest("Fish.", other="Fist."))
    assert found.other is not None and found.kept_as is None
    assert found.reading.tokens[0] == found.other.tokens[0]
    assert found.reading.tokens[-1].token == found.other.tokens[-1].token == "."


def test_a_kept_prompt_is_a_run_and_found_again(path: Path, reopened: Reopened) -> None:
    asked = PromptRequest("Fish.", keep=True)
    kept = prompt(reopened, asked).kept_as
    assert kept is not None and prompt(reopened, asked).kept_as == kept
    (run,) = rows(path, "FROM runs WHERE run_id = $run", run=kept).to_dicts()
    assert (run["kind"], run["base_run"]) == ("prompt", reopened.run.run_id)
    assert '"text": "Fish."' in run["settings"]
    assert rows(path, "FROM energies WHERE run_id = $run", run=kept).height > 0
    assert rows(path, "FROM codes WHERE run_id = $run", run=kept).height > 0
    assert verify_store(path) == []
    lock = StoreLayout(path).run(kept).lock
    lock.write_text("")  # as a kill leaves it
    assert prompt(reopened, asked).kept_as == kept and not lock.exists()


def test_what_a_kill_left_beside_a_plan_is_cleared(path: Path, reopened: Reopened) -> None:
    plans = StoreLayout(path).plans
    reopen_texts(path, reopened.run)
    before = sorted(plans.iterdir())
    (plans / f".{before[0].stem}.lock").write_text("")
    reopen_texts(path, reopened.run)
    assert sorted(plans.iterdir()) == before


def test_an_intervention_keeps_every_condition(path: Path, reopened: Reopened) -> None:
    edit = EditRequest("resid", (3, 5), "ablate")
    found = intervene(reopened, InterventionRequest(short(reopened), edit))
    names = [condition.name for condition in found.conditions]
    assert names == ["clean", "edited", "flipped", "noise", "like"]
    clean, edited, *_ = found.conditions
    assert max(clean.kl) == 0 and clean.energy_change == 0
    assert max(edited.kl) > 0
    differences = [
        b - a for a, b in zip(clean.energies, edited.energies, strict=True) if a is not None and b
    ]
    assert edited.energy_change == pytest.approx(sum(differences) / len(differences), abs=1e-5)
    stored = rows(
        path,
        "SELECT x.category, t.pos, t.energy FROM tokens AS t JOIN contexts USING (run_id, "
        "context_id) JOIN texts AS x USING (run_id, text_id) WHERE t.run_id = $run "
        "ORDER BY x.text_id, t.pos",
        run=found.kept_as,
    )
    assert stored["category"].unique(maintain_order=True).to_list() == names
    for condition in found.conditions:
        mine = stored.filter(pl.col("category") == condition.name)["energy"].to_list()
        assert mine == pytest.approx(condition.energies, abs=1e-5)
    assert verify_store(path) == []


def test_what_is_before_the_edited_token_stays(reopened: Reopened) -> None:
    edit = EditRequest("resid", (3,), "add", 5.0, positions=(3,))
    found = intervene(reopened, InterventionRequest(short(reopened), edit, keep=False))
    assert found.kept_as is None
    _, edited, *_ = found.conditions
    assert max(edited.kl[:3]) < 1e-6 < edited.kl[3]
    assert {shift.pos for shift in found.shifts} >= {3}
    assert all(shift.before != shift.after for shift in found.shifts)


def test_features_that_moved_are_named_with_both_sums(reopened: Reopened) -> None:
    edit = EditRequest("resid", (3,), "clamp", 9.0)
    found = intervene(reopened, InterventionRequest(short(reopened), edit, keep=False))
    (own,) = [f for f in found.features if (f.sae_id, f.feature_id) == ("resid", 3)]
    n = len(found.tokens) - 1  # BOS is left alone
    assert own.after > own.before
    assert own.after == pytest.approx(9.0 * n, rel=0.2)


def test_multiples_of_the_maximum_are_read_from_the_index(path: Path, reopened: Reopened) -> None:
    (top,) = rows(
        path,
        "SELECT max_activation FROM features WHERE run_id = $run AND sae_id = 'resid' "
        "AND feature_id = 3",
        run=reopened.run.run_id,
    )["max_activation"]
    by_max = EditRequest("resid", (3,), "add", 2.0, "max")
    by_hand = EditRequest("resid", (3,), "add", 2.0 * top)
    found = [
        intervene(reopened, InterventionRequest("Fish.", edit, keep=False)).conditions[1].energies
        for edit in (by_max, by_hand)
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_attribution_orders_features_and_says_how_measures_agree(reopened: Reopened) -> None:
    asked = AttributionRequest(short(reopened), "resid", position=-2, top=6)
    found = attribute(reopened, asked, Progress())
    sizes = [abs(f.gradient) for f in found.features]
    assert sizes == sorted(sizes, reverse=True)
    assert [f.ablation is not None for f in found.features[:7]] == [True] * 6 + [False]
    assert found.agreement["gradient, ablation"] is not None
    assert found.curve.faithfulness[-1] == pytest.approx(1.0, abs=1e-3)
    assert found.curve.completeness[-1] == pytest.approx(0.0, abs=1e-2)
    assert found.position == len(found.tokens) - 2
    late = attribute(
        reopened,
        replace(asked, other_sae_id="mlp", other_feature_id=0, position=-1),
        Progress(),
    )
    assert "feature 0 of mlp" in late.metric and late.features[0].direct is None


def test_a_context_of_the_run_is_attributed_as_its_text_is(reopened: Reopened) -> None:
    shortest = f"""
    SELECT c.context_id, t.text FROM contexts AS c JOIN texts AS t USING (run_id, text_id)
    WHERE c.run_id = '{reopened.run.run_id}' AND t.n_tokens > 3 AND c.part = 0
    ORDER BY t.n_tokens, c.context_id LIMIT 1
    """
    context_id, text = rows(reopened.store, shortest).row(0)
    asked = AttributionRequest("", "resid", position=2, top=3, context_id=context_id)
    stored = attribute(reopened, asked, Progress())
    typed = attribute(reopened, replace(asked, text=text, context_id=None), Progress())
    assert stored.tokens == typed.tokens and stored.metric == typed.metric
    assert [f.feature_id for f in stored.features] == [f.feature_id for f in typed.features]
    last = replace(asked, position=len(stored.tokens) - 1)
    likeliest = prompt(reopened, PromptRequest(text)).reading.tokens[-1]
    assert repr(likeliest.continuations[-1]) in attribute(reopened, last, Progress()).metric
    for odd in (replace(asked, text=text), replace(asked, context_id=None)):
        with pytest.raises(UsageError, match="give context_id or text"):
            attribute(reopened, odd, Progress())


def test_steering_begins_with_the_unsteered_text(reopened: Reopened) -> None:
    edit = EditRequest("resid", (3,), "add", unit="max")
    asked = SteeringRequest("Fish", edit, strengths=(8.0,), n_tokens=6, seed=1)
    found = steer(reopened, asked, Progress())
    assert [text.strength for text in found.texts] == [0.0, 8.0]
    plain, steered = found.texts
    assert plain.text != steered.text and steered.perplexity > 1
    assert steer(reopened, asked, Progress()) == found
    assert plain.activation_steered == plain.activation
    (top,) = rows(
        reopened.store,
        "SELECT max_activation FROM features WHERE sae_id = 'resid' AND feature_id = 3",
    ).row(0)
    added = steered.activation_steered  # the SAE of the tests reads what it writes, and no more
    assert added is not None and 7 * top < added <= 9 * top and steered.activation <= top * 1.5
    with pytest.raises(UsageError, match="adds to features or clamps"):
        steer(reopened, replace(asked, edit=EditRequest("resid", (3,))), Progress())


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (PromptRequest(""), "0 tokens; this needs 1 to 15"),
        (PromptRequest("the cat " * 30), "this needs 1 to 15"),
    ],
)
def test_a_text_that_fits_no_context_is_refused(
    reopened: Reopened, asked: PromptRequest, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        prompt(reopened, asked)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (EditRequest("other", (3,)), "no SAE 'other'; nearest: "),
        (EditRequest("resid", (3,), "remove"), "one of ablate, scale, clamp, add"),
        (EditRequest("resid", (3,), "add", 1.0, "std"), "one of activation, max, norm"),
        (EditRequest("resid", (99,)), "features 0 to 47, not 99"),
        (EditRequest("resid", (3,), positions=(-1,)), "a number from 0, not -1"),
    ],
)
def test_an_edit_that_cannot_be_made_is_refused(
    reopened: Reopened, edit: EditRequest, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        intervene(reopened, InterventionRequest("Fish.", edit, keep=False))


def test_another_model_at_the_place_of_the_runs_is_refused(path: Path, reopened: Reopened) -> None:
    record = path / "runs" / reopened.run.run_id / "run.json"
    was = record.read_text()
    try:
        record.write_text(sealed(replace(reopened.run, model_sha256="0" * 64)))
        with pytest.raises(UsageError, match="put the old one back"):
            reopen(path, reopened.run.run_id)
    finally:
        record.write_text(was)
