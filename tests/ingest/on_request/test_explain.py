"""Explaining and judging features of a store: against judges that know, and endpoints that fail."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from energylens.db.explanations import Explanation, read_explanations, write_explanations
from energylens.db.layout import StoreLayout
from energylens.db.scores import ExplanationScore, read_scores
from energylens.db.store import Store
from energylens.db.version import create_store
from energylens.errors import SpeakerError, UsageError
from energylens.explaining.speaker import Prompt
from energylens.ingest.index.build import build_indexes
from energylens.ingest.index.patterns import prepare as prepare_patterns
from energylens.ingest.on_request.excerpts import N_JUDGED, N_TOP, Excerpts
from energylens.ingest.on_request.explain import (
    Outcome,
    carry_out,
    features_to_explain,
    forecast,
    tasks_to_score,
    tasks_to_write,
)
from energylens.ingest.progress import Progress
from energylens.queries.catalog import open_catalog
from tests.synthetic import RUN, SAE, D, Places, World, run_of, write_shards

N = 100
"""Features: each fires on one entry of a vocabulary of as many, a third of them on few tokens."""
KINDS = ("detection", "fuzzing")


def word(feature: int) -> str:
    return f" w{feature:03d}"


@pytest.fixture(scope="module")
def one_token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of features that fire on one token each, and one (0) that fires nowhere."""
    generator = np.random.default_rng(0)
    places = Places(generator.integers(40, 300, 120), 64, np.arange(120) % 4)
    vocab_id = generator.integers(0, N, places.n_tokens)
    z = np.zeros((places.n_tokens, N))
    z[np.arange(places.n_tokens), vocab_id] = generator.gamma(2.0, 1.0, places.n_tokens) + 0.1
    z[:, 0] = 0.0
    world = World(
        z, np.zeros((places.n_tokens, D)), np.ones((N, D)), places, vocab_id=vocab_id,
        pieces=tuple(word(feature) for feature in range(N)),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("words") / "words.lens"
    create_store(path)
    write_shards(path, world, run_of(world))
    build_indexes(path, Progress())
    return path


@pytest.fixture
def path(one_token: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(one_token, tmp_path / "words.lens"))


class Knows:
    """Explains a feature by the token that is marked, and judges by the token that is said."""

    name = "knows"

    def __init__(self) -> None:
        self.n_asked = 0

    def say(self, prompt: Prompt) -> str:
        self.n_asked += 1
        if prompt.user.startswith("Said: "):
            return self._judged(prompt)
        marked = re.findall(r"<<(.*?)>>", prompt.user)
        words = {found for run in marked for found in re.findall(r" w\d{3}", run)}
        assert len(words) == 1, words
        return json.dumps({"explanation": f"the token {words.pop()}"})

    def _judged(self, prompt: Prompt) -> str:
        said, *lines = prompt.user.split("\n")
        token = re.findall(r" w\d{3}", json.loads(said.removeprefix("Said: ")))[0]
        texts = [json.loads(line.split(". ", 1)[1]) for line in lines]
        if "<<" in prompt.user:
            return json.dumps([int(f"<<{token}" in text) for text in texts])
        return json.dumps([int(token in text) for text in texts])


class Breaks(Knows):
    """Stops answering after so many questions."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def say(self, prompt: Prompt) -> str:
        if self.n_asked == self.after:
            raise SpeakerError("gone")
        return super().say(prompt)


def write(path: Path, speaker: Knows, features: list[int], kinds: tuple = KINDS) -> Outcome:
    with open_catalog(path) as store:
        tasks = tasks_to_write(store, RUN, SAE, features, speaker.name, kinds)
        excerpts = Excerpts(store, RUN, SAE)
        return carry_out(store.layout.run(RUN), SAE, excerpts, speaker, tasks, Progress())


def scores(path: Path) -> list[ExplanationScore]:
    return read_scores(StoreLayout(path).run(RUN))


def test_excerpts_to_explain_are_of_one_half_and_those_to_judge_of_the_other(
    one_token: Path,
) -> None:
    with open_catalog(one_token) as store:
        con = store.cursor()
        con.execute("CREATE TEMP TABLE run_texts AS SELECT text_id, category, n_tokens FROM texts")
        halves = _pattern_halves(store)
        excerpts = Excerpts(store, RUN, SAE)
        for feature in (1, 17, 60):
            told, sample = excerpts.to_explain(feature), excerpts.to_judge(feature)
            assert {halves[one.text_id] for one in told} == {0}
            assert {halves[one.text_id] for one in (*sample.active, *sample.silent)} == {1}


def _pattern_halves(store: Store) -> dict[int, int]:
    """As the index draws them for token patterns."""
    con = store.cursor()
    con.execute("CREATE OR REPLACE TEMP TABLE run_texts AS FROM texts")
    con.execute(
        "CREATE OR REPLACE TEMP TABLE run_tokens AS SELECT t.token_index, t.context_id, c.text_id, "
        "t.is_masked FROM tokens AS t JOIN contexts AS c USING (run_id, context_id)"
    )
    prepare_patterns(con, RUN)
    return dict(con.execute("SELECT text_id, half FROM pattern_texts").fetchall())


def test_excerpts_are_what_the_tables_say(one_token: Path) -> None:
    with open_catalog(one_token) as store:
        excerpts = Excerpts(store, RUN, SAE)
        for feature in (3, 42):
            told, sample = excerpts.to_explain(feature), excerpts.to_judge(feature)
            assert N_TOP < len(told) <= 2 * N_TOP
            assert len(sample.active) == len(sample.silent) == N_JUDGED
            peaks = [max(one.strengths) for one in told[:N_TOP]]
            assert peaks[0] == 1.0 and peaks == sorted(peaks, reverse=True)
            own = word(feature).encode()
            for one in (*told, *sample.active):
                marked = {
                    t for t, is_marked in zip(one.tokens, one.marked, strict=True) if is_marked
                }
                assert marked == {own}
            for active, silent in zip(sample.active, sample.silent, strict=True):
                assert own not in silent.tokens
                assert sum(silent.marked) == min(sum(active.marked), len(silent.tokens))
            assert excerpts.to_judge(feature) == sample
        assert len({one.tokens for one in sample.silent}) == N_JUDGED


def test_the_token_itself_scores_nine_tenths_or_more(path: Path) -> None:
    features = list(range(1, N, 7))
    assert write(path, Knows(), features) == Outcome(len(features), 0, 0)
    kept = read_explanations(StoreLayout(path).run(RUN).explanations)
    assert {e.feature_id: e.description for e in kept} == {
        f: f"the token {word(f)}".replace("  ", " ") for f in features
    }
    assert all(
        (e.method, e.model, e.score_type) == ("explained", "knows", "detection") for e in kept
    )
    found = scores(path)
    assert len(found) == 2 * len(features) and {s.judge for s in found} == {"knows"}
    assert min(s.score or 0 for s in found) >= 0.9
    assert all((s.n_active, s.n_silent, s.n_unanswered) == (50, 50, 0) for s in found)


def test_explanations_of_other_features_score_one_half(path: Path) -> None:
    """Each feature is said to be what another one is; features are units of the mean."""
    run = StoreLayout(path).run(RUN)
    features = np.arange(1, N)
    others = np.roll(features, 37)
    write_explanations(
        run, SAE,
        [Explanation(RUN, SAE, int(f), f"the token {word(int(o))}", "mixed up") for f, o in
         zip(features, others, strict=True)],
    )  # fmt: skip
    with open_catalog(path) as store:
        tasks = tasks_to_score(store, RUN, SAE, [], 1000, "mixed up", "knows")
        assert len(tasks) == len(features)
        excerpts = Excerpts(store, RUN, SAE)
        carry_out(run, SAE, excerpts, Knows(), tasks, Progress())
    for kind in KINDS:
        own = [s for s in scores(path) if s.score_type == kind]
        values = np.array([s.score for s in own], dtype=float)
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert abs(values.mean() - 0.5) < 3 * error + 0.005
        holds = np.mean([(s.score_low or 0) <= 0.5 <= (s.score_high or 1) for s in own])
        assert holds >= 0.9
    kept = read_explanations(run.explanations)
    assert all(e.score is None for e in kept)  # somebody else's words: their score is not ours


def test_a_model_that_stops_loses_nothing_and_is_asked_for_the_rest_alone(path: Path) -> None:
    features = [1, 2, 3, 4]
    for after in (0, 1, 5, 21, 30):
        with pytest.raises(SpeakerError):
            write(path, Breaks(after), features)
    kept = {e.feature_id for e in read_explanations(StoreLayout(path).run(RUN).explanations)}
    assert {1, 2} <= kept < {1, 2, 3, 4}
    rest, again = Knows(), Knows()
    assert write(path, rest, features) == Outcome(4 - len(kept), 0, 0)
    assert len(scores(path)) == 8 and 0 < rest.n_asked < 84 - 21 * 2 + 1
    assert write(path, again, features) == Outcome(0, 0, 0)
    assert again.n_asked == 0


def test_the_forecast_is_what_is_asked(path: Path) -> None:
    with open_catalog(path) as store:
        tasks = tasks_to_write(store, RUN, SAE, [5, 6, 7], "knows", KINDS)
        told = forecast(Excerpts(store, RUN, SAE), tasks)
    speaker = Knows()
    write(path, speaker, [5, 6, 7])
    assert (told.n_features, told.n_calls) == (3, 63) == (3, speaker.n_asked)
    assert told.n_tokens_in > 63 * 100
    with open_catalog(path) as store:
        tasks = tasks_to_write(store, RUN, SAE, [5, 6, 7], "knows", KINDS)
        assert forecast(Excerpts(store, RUN, SAE), tasks).n_calls == 0


def test_a_silent_feature_and_unreadable_words_are_counted(path: Path) -> None:
    class Mumbles(Knows):
        def say(self, prompt: Prompt) -> str:
            self.n_asked += 1
            return "..."

    mumbles = Mumbles()
    assert write(path, mumbles, [0, 8]) == Outcome(0, 1, 1)
    assert mumbles.n_asked == 2
    assert not StoreLayout(path).run(RUN).explanations.exists()


def test_features_are_those_in_most_texts_or_those_asked_for(one_token: Path) -> None:
    with open_catalog(one_token) as store:
        rows = store.cursor().execute(
            "SELECT feature_id FROM features WHERE NOT is_dense ORDER BY n_texts DESC, feature_id"
        )
        most = [row[0] for row in rows.fetchall()]
        assert features_to_explain(store, RUN, SAE, [], 5) == most[:5]
        assert features_to_explain(store, RUN, SAE, [9, 3, 9], 5) == [9, 3]
        for wrong in (-1, N):
            with pytest.raises(UsageError, match=f"no feature {wrong}"):
                features_to_explain(store, RUN, SAE, [wrong], 5)


def test_token_patterns_are_judged_and_what_is_not_there_is_named(path: Path) -> None:
    class Guesses(Knows):
        def _judged(self, prompt: Prompt) -> str:
            return json.dumps([1] * prompt.user.count("\n"))

    with open_catalog(path) as store:
        tasks = tasks_to_score(store, RUN, SAE, [], 3, "tokens", "knows")
        assert len(tasks) == 3
        done = carry_out(
            store.layout.run(RUN), SAE, Excerpts(store, RUN, SAE), Guesses(), tasks, Progress()
        )
        assert done == Outcome(0, 0, 0)
        with pytest.raises(UsageError, match="no explanation by the method 'mine'"):
            tasks_to_score(store, RUN, SAE, [], 3, "mine", "knows")
    assert {s.score for s in scores(path)} == {0.5}
    assert not StoreLayout(path).run(RUN).explanations.exists()
