"""Conditions in what is asked of a run: where they act, how they are judged, what is refused."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from energylens.db.store import open_store
from energylens.errors import EnergyLensError
from energylens.ingest.on_request.conditions import judge, log_odds, trigger_of
from energylens.ingest.on_request.intervene import intervene
from energylens.ingest.on_request.probes import codes_of, sampled_tokens
from energylens.ingest.on_request.prompt import prompt
from energylens.ingest.on_request.reopen import Reopened, reopen
from energylens.ingest.on_request.steer import steer
from energylens.ingest.progress import Progress
from energylens.protocol import (
    EditRequest,
    InterventionRequest,
    InterventionResult,
    PromptRequest,
    SteeringRequest,
    SteeringResult,
)
from energylens.queries.names import find_sae
from energylens.when import When, parse_when

TEXT = "the cat sat on the mat"
EDIT = EditRequest("two", (3, 5), "add", 30.0)


@pytest.fixture(scope="module")
def reopened(rich_path: Path) -> Reopened:
    with open_store(rich_path) as store:
        run_id = store.runs[0].info.run_id
    return reopen(rich_path, run_id)


def under(when: str | None) -> EditRequest:
    return EDIT if when is None else replace(EDIT, when=parse_when(when))


def intervened(reopened: Reopened, when: str | None) -> InterventionResult:
    return intervene(reopened, InterventionRequest(TEXT, under(when), keep=False))


def steered(reopened: Reopened, when: str | None) -> SteeringResult:
    asked = SteeringRequest("the cat", under(when), (30.0,), 6, seed=1)
    return steer(reopened, asked, Progress())


@pytest.fixture(scope="module")
def strong(reopened: Reopened) -> tuple[int, float, list[bool]]:
    """A feature of the SAE `one` active at some tokens of the text, a threshold that one of them
    does not pass, and which do, as a plain reading tells."""
    reading = prompt(reopened, PromptRequest(TEXT, top=100)).reading
    of = [f for f in reading.features if f.sae_id == "one" and f.pos > 0]
    by_feature = {f.feature_id: [g for g in of if g.feature_id == f.feature_id] for f in of}
    feature = max(by_feature, key=lambda f: len(by_feature[f]))
    values = {f.pos: f.activation for f in by_feature[feature]}
    low, high = sorted(values.values())[:2]
    threshold = (low + high) / 2
    return feature, threshold, [values.get(t.pos, 0) > threshold for t in reading.tokens]


def test_an_intervention_acts_where_the_condition_of_another_sae_holds(
    reopened: Reopened, strong: tuple[int, float, list[bool]]
) -> None:
    feature, threshold, expected = strong
    found = intervened(reopened, f"one:{feature}>{threshold}")
    clean, edited, *controls = found.conditions
    assert 0 < sum(expected) < len(expected) - 1
    assert edited.acted == expected
    assert all(one.acted == expected for one in controls), "the condition reads before the edit"
    assert clean.acted == [False] * len(found.tokens)
    first = expected.index(True)
    assert max(edited.kl[:first], default=0) < 1e-6 < edited.kl[first]
    assert found.when is not None and found.when.condition == f"one:{feature}>{threshold}"


def test_always_is_unconditional_and_never_is_clean(reopened: Reopened) -> None:
    always, never, plain = (intervened(reopened, w) for w in ("one:7>=-1", "one:7>1e9", None))
    for mine, other in zip(always.conditions, plain.conditions, strict=True):
        assert mine == other
    assert plain.when is None and plain.conditions[1].acted == [False] + [True] * (
        len(plain.tokens) - 1
    )
    clean, *others = never.conditions
    for one in others:
        assert one.energies == clean.energies and max(one.kl) == 0
    assert never.shifts == [] and never.features == []


def test_steering_under_always_and_never(reopened: Reopened) -> None:
    always, never, plain = (steered(reopened, w) for w in ("one:7>=-1", "one:7>1e9", None))
    assert always.texts == plain.texts and plain.when is None
    assert never.texts[1].text == never.texts[0].text == plain.texts[0].text
    assert plain.texts[1].text != plain.texts[0].text
    assert never.texts[1].n_acted == 0
    assert plain.texts[1].n_acted == plain.texts[1].n_read
    assert never.texts[1].activation_steered == pytest.approx(never.texts[0].activation)


def by_hand(held: np.ndarray, is_own: np.ndarray) -> tuple[float | None, float | None]:
    both = float((held & is_own).sum())
    return (
        both / held.sum() if held.any() else None,
        both / is_own.sum() if is_own.any() else None,
    )


def test_a_feature_is_judged_on_all_texts_and_categories(reopened: Reopened) -> None:
    found = judge(reopened, under("one:7>0.5"))
    assert found is not None
    with open_store(reopened.store) as store:
        rows = store.cursor().execute(
            "SELECT t.token_index, x.category, coalesce(c.activation, 0) > 0.5 FROM tokens AS t "
            "JOIN contexts USING (run_id, context_id) JOIN texts AS x USING (run_id, text_id) "
            "LEFT JOIN codes AS c ON c.run_id = t.run_id AND c.token_index = t.token_index "
            "AND c.sae_id = 'one' AND c.feature_id = 7 WHERE t.run_id = $run AND NOT t.is_masked",
            {"run": reopened.run.run_id},
        ).fetchall()  # fmt: skip
    held = np.array([row[2] for row in rows])
    category = np.array([row[1] for row in rows], dtype=object)
    assert found.n_tokens == len(rows) and found.n_texts == 40
    assert found.share == pytest.approx(held.mean())
    assert [rate.category for rate in found.rates] == ["a", "b"]
    for rate in found.rates:
        expected = by_hand(held, category == rate.category)
        assert (rate.precision, rate.recall) == pytest.approx(expected)


def test_a_probe_is_judged_on_texts_it_did_not_learn_on(reopened: Reopened) -> None:
    found = judge(reopened, under("two:a_probe>0.42"))
    assert found is not None and [rate.category for rate in found.rates] == ["a"]
    with open_store(reopened.store) as store:
        tokens = sampled_tokens(store, reopened.run)
        codes = codes_of(store, reopened.run, find_sae(reopened.run, "two"), tokens).toarray()
    probe = reopened.probes["two", "a"]
    p = 1 / (1 + np.exp(-(codes @ probe.weights + probe.bias)))
    judged = ~tokens.learns
    held, is_own = p[judged] > 0.42, tokens.category[judged] == "a"
    assert 0 < held.sum() < len(held)
    assert (found.rates[0].precision, found.rates[0].recall) == pytest.approx(by_hand(held, is_own))
    assert found.n_tokens == judged.sum()
    assert set(tokens.text_id[judged]).isdisjoint(tokens.text_id[~judged])
    own = [set(tokens.text_id[half & (tokens.category == "a")]) for half in (judged, ~judged)]
    assert len(own[0]) == len(own[1]) == found.rates[0].n_texts == 8, "categories alternate here"


def test_a_probe_acts_where_its_probability_is_high(reopened: Reopened) -> None:
    trigger_of(reopened, reopened.sae("two"), under("two:a_probe"))
    reading = prompt(reopened, PromptRequest(TEXT, top=100)).reading
    probe = reopened.probes["two", "a"]
    scores = np.full(len(reading.tokens), probe.bias)
    for f in reading.features:
        if f.sae_id == "two":
            scores[f.pos] += probe.weights[f.feature_id] * f.activation
    p = 1 / (1 + np.exp(-scores))
    threshold = float(np.sort(p[1:])[[2, 3]].mean())
    found = intervened(reopened, f"two:a_probe>={threshold}")
    assert found.conditions[1].acted == [False, *(p[1:] >= threshold).tolist()]


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("one:48>1", "a feature that does not exist: 'one' has features 0 to 47, not 48"),
        ("three:4>1", "no SAE 'three'; nearest: "),
        ("c_probe", "has no category 'c'; it has a, b"),
        ("mlp:3>1", None),
    ],
)
def test_what_cannot_be_read_is_refused(reopened: Reopened, when: str, words: str | None) -> None:
    """The MLP's output stands before the stream that it is added to: that can be read."""
    asked = under(when)
    edited = reopened.sae("two")
    if words is None:
        assert trigger_of(reopened, edited, asked) is not None
        return
    with pytest.raises(EnergyLensError) as refused:
        trigger_of(reopened, edited, asked)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (When("", 3, None, ">", math.nan), "compares with a number, not nan"),
        (When("", 3, None, "=", 1.0), "compares by >, >=, <, <=, not '='"),
        (When("", 3, "a", ">", 0.5), "give one of them"),
        (When("", 1 << 62, None, ">", 0.5), "features 0 to 39, not 4611686018427387904"),
        (When("", None, "'; DROP TABLE texts; --", ">", 0.5), "has no category '';"),
    ],
)
def test_a_record_from_another_program_is_refused(
    reopened: Reopened, when: When, words: str
) -> None:
    with pytest.raises(EnergyLensError) as refused:
        trigger_of(reopened, reopened.sae("two"), replace(EDIT, when=when))
    assert words in str(refused.value)


@pytest.mark.parametrize("ask", [intervene, lambda r, a: steer(r, a, Progress())])
def test_a_condition_after_the_edit_is_refused_before_anything_runs(
    reopened: Reopened, ask: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = EditRequest("one", (3,), "add", 1.0, when=parse_when("two:3>1"))
    asked = (
        InterventionRequest(TEXT, edit, keep=False)
        if ask is intervene
        else SteeringRequest("the", edit)
    )
    monkeypatch.setattr(Reopened, "measure", None)
    with pytest.raises(EnergyLensError, match=r"computes only after 'blocks.0.hook_resid_post'"):
        ask(reopened, asked)  # type: ignore


def test_a_category_of_few_texts_has_no_probe(store_path: Path) -> None:
    with open_store(store_path) as store:
        run = store.runs[0].info
    tiny = reopen(store_path, run.run_id)
    edit = EditRequest("resid", (3,), "add", when=parse_when("animals_probe"))
    with pytest.raises(EnergyLensError, match=r"there 2 are of it; it needs 4, so take a feature"):
        trigger_of(tiny, tiny.sae("resid"), edit)


def test_a_probability_of_nothing_or_all_is_passed_always_or_never() -> None:
    ends: Sequence[float] = [log_odds(p) for p in (0.0, 0.5, 1.0)]
    assert ends == [float("-inf"), 0.0, float("inf")]
