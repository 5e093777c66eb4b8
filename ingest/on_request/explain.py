"""Let a language model explain features, and judge explanations; every feature is kept at once, so
that asking again goes on with the rest."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from energylens.db.explanations import Explanation, write_explanations
from energylens.db.layout import RunLayout
from energylens.db.leftovers import clean_run
from energylens.db.scores import ExplanationScore, read_scores, write_scores
from energylens.db.store import Store
from energylens.errors import UsageError
from energylens.explaining.prompts import explanation_prompt, read_explanation
from energylens.explaining.scoring import KINDS, Kind, questions, score
from energylens.explaining.speaker import Prompt, Speaker
from energylens.ingest.on_request.excerpts import Excerpts
from energylens.ingest.progress import Progress
from energylens.queries.names import check_number, find_sae

METHOD = "explained"
"""Of explanations that are written here."""
_TRIES = 2
_SAMPLED = 3
"""Features whose prompts the forecast counts."""
_TYPICAL = "tokens in the middle of words that name a place or a person"
"""As long as explanations are, about."""

_FREQUENT = """
SELECT f.feature_id FROM features AS f
WHERE f.run_id = $run AND f.sae_id = $sae AND f.n_active > 0 AND NOT f.is_dense
    AND (len($among::BIGINT[]) = 0 OR f.feature_id IN (SELECT unnest($among::BIGINT[])))
ORDER BY f.n_texts DESC, f.feature_id
LIMIT $n
"""
_EXPLAINED = """
SELECT e.run_id, e.sae_id, e.feature_id, e.description, e.method, e.model, e.score, e.score_type
FROM explanations AS e
WHERE e.run_id = $run AND e.sae_id = $sae AND ($method IS NULL OR e.method = $method)
ORDER BY e.feature_id, e.description, e.method, e.model
"""


@dataclass(frozen=True)
class Task:
    """What is left to do for one explanation."""

    feature_id: int
    explanation: Explanation | None
    """None where it is to be written."""
    kinds: tuple[Kind, ...]
    """Scores that it has not yet from this judge."""


@dataclass(frozen=True)
class Forecast:
    """What tasks will cost, if every answer can be read."""

    n_features: int
    n_calls: int
    n_tokens_in: int
    """About: characters by four."""
    n_tokens_out: int
    """At most."""


@dataclass(frozen=True)
class Outcome:
    """What became of tasks."""

    n_written: int
    n_unread: int
    """Features of which no explanation could be read from the answers."""
    n_without_excerpts: int
    """Features that are silent in the half of the texts that was needed."""


def features_to_explain(
    store: Store, run_id: str, sae_id: str, wanted: Sequence[int], top: int
) -> list[int]:
    """The features asked for, or the `top` that are active in most texts; dense ones are left out.

    Raises:
        UsageError: one that is asked for does not exist, or none is there to choose.
    """
    if wanted:
        sae = find_sae(store.run(run_id).info, sae_id)
        checked = (check_number("feature", one, sae.d_sae, f"'{sae_id}'") for one in wanted)
        return list(dict.fromkeys(checked))
    found = _frequent(store, run_id, sae_id, [], top)
    if not found:
        raise UsageError(
            f"no feature of '{sae_id}' is active on this run's texts without being dense; name "
            "those to explain with --feature"
        )
    return found


def tasks_to_write(
    store: Store,
    run_id: str,
    sae_id: str,
    features: Sequence[int],
    model: str,
    kinds: Sequence[Kind],
) -> list[Task]:
    """Explanations by a model that are not there yet, and scores of those that are."""
    known = {
        one.feature_id: one
        for one in _explained(store, run_id, sae_id, METHOD)
        if one.model == model
    }
    done = _done(store.layout.run(run_id), model)
    tasks = [Task(feature, known.get(feature), tuple(kinds)) for feature in features]
    return list(_open(tasks, done))


def tasks_to_score(
    store: Store,
    run_id: str,
    sae_id: str,
    wanted: Sequence[int],
    top: int,
    method: str | None,
    judge: str,
) -> list[Task]:
    """Explanations, by anybody or by one method, of features asked for, or of the `top` that are
    active in most texts, that a judge has not scored yet.

    Raises:
        UsageError: there is no such explanation.
    """
    said = _explained(store, run_id, sae_id, method)
    if wanted:
        features = features_to_explain(store, run_id, sae_id, wanted, top)
    else:
        features = _frequent(store, run_id, sae_id, [one.feature_id for one in said], top)
    by_feature: defaultdict[int, list[Explanation]] = defaultdict(list)
    for one in said:
        by_feature[one.feature_id].append(one)
    of_features = [one for feature in features for one in by_feature[feature]]
    if not of_features:
        by = "" if method is None else f" by the method '{method}'"
        raise UsageError(
            f"there is no explanation{by} of these features of '{sae_id}'; energylens explain "
            "reads some from a file, energylens explain write lets a model write them, and the "
            "index finds those by the method 'tokens'"
        )
    done = _done(store.layout.run(run_id), judge)
    return list(_open([Task(one.feature_id, one, KINDS) for one in of_features], done))


def forecast(excerpts: Excerpts, tasks: Sequence[Task]) -> Forecast:
    """What tasks will cost, by the prompts of the first few."""
    asked = [_prompts(excerpts, task) for task in tasks[:_SAMPLED]]
    share = len(tasks) / max(len(asked), 1)

    def of_all(numbers: Iterator[int]) -> int:
        return round(sum(numbers) * share)

    return Forecast(
        n_features=len({task.feature_id for task in tasks}),
        n_calls=of_all(len(prompts) for prompts in asked),
        n_tokens_in=of_all(prompt.n_tokens for prompts in asked for prompt in prompts),
        n_tokens_out=of_all(prompt.most_tokens for prompts in asked for prompt in prompts),
    )


def carry_out(
    run: RunLayout,
    sae_id: str,
    excerpts: Excerpts,
    speaker: Speaker,
    tasks: Sequence[Task],
    progress: Progress,
) -> Outcome:
    """Write and judge explanations, one task after another, and keep each at once.

    Raises:
        SpeakerError: the model does not answer; what was done is kept.
        StoreError: the store cannot be written.
    """
    clean_run(run)  # one that was killed at its last step left a lock, and there may be no task
    n_written = n_unread = n_without = 0
    for number, task in enumerate(tasks):
        progress.step("explanations", number, len(tasks), "explanations")
        explanation = task.explanation
        if explanation is None:
            told = excerpts.to_explain(task.feature_id)
            if not told:
                n_without += 1
                continue
            words = _words(speaker, explanation_prompt(told))
            if words is None:
                n_unread += 1
                continue
            about = (run.root.name, sae_id, task.feature_id)
            explanation = Explanation(*about, words, METHOD, speaker.name)
            write_explanations(run, sae_id, [explanation])
            n_written += 1
        _judge(run, excerpts, speaker, explanation, task.kinds)
    progress.step("explanations", len(tasks), len(tasks), "explanations")
    return Outcome(n_written, n_unread, n_without)


def _judge(
    run: RunLayout,
    excerpts: Excerpts,
    speaker: Speaker,
    explanation: Explanation,
    kinds: Sequence[Kind],
) -> None:
    if not kinds:
        return
    sample = excerpts.to_judge(explanation.feature_id)
    for kind in kinds:
        found = score(speaker, kind, explanation.description, sample, explanation.feature_id)
        if kind == "detection" and found.score is not None and _is_to_tell(explanation, speaker):
            # before its score is kept: what is kept is never judged again
            scored = replace(explanation, score=found.score, score_type=kind)
            write_explanations(run, explanation.sae_id, [scored])
        kept = ExplanationScore(
            run.root.name,
            explanation.sae_id,
            explanation.feature_id,
            explanation.description,
            explanation.method,
            explanation.model,
            score_type=kind,
            judge=speaker.name,
            score=found.score,
            score_low=found.low,
            score_high=found.high,
            n_active=found.n_active,
            n_silent=found.n_silent,
            n_texts=found.n_texts,
            n_unanswered=found.n_unanswered,
        )
        write_scores(run, [kept])


def _is_to_tell(explanation: Explanation, judge: Speaker) -> bool:
    """Whether a judge's score is to be the explanation's own: of those written here, the first."""
    is_first = explanation.score is None or explanation.model == judge.name
    return explanation.method == METHOD and is_first


def _words(speaker: Speaker, prompt: Prompt) -> str | None:
    for _ in range(_TRIES):
        words = read_explanation(speaker.say(prompt))
        if words is not None:
            return words
    return None


def _prompts(excerpts: Excerpts, task: Task) -> list[Prompt]:
    """Everything that a task asks."""
    first: list[Prompt] = []
    description = _TYPICAL
    if task.explanation is None:
        first = [explanation_prompt(excerpts.to_explain(task.feature_id))]
    else:
        description = task.explanation.description
    if not task.kinds:
        return first
    sample = excerpts.to_judge(task.feature_id)
    asked = (questions(kind, description, sample, task.feature_id) for kind in task.kinds)
    return [*first, *(prompt for prompts in asked for prompt in prompts)]


def _explained(store: Store, run_id: str, sae_id: str, method: str | None) -> list[Explanation]:
    given = {"run": run_id, "sae": sae_id, "method": method}
    return [Explanation(*row) for row in store.cursor().execute(_EXPLAINED, given).fetchall()]


def _frequent(store: Store, run_id: str, sae_id: str, among: Sequence[int], n: int) -> list[int]:
    """Features, or some among them, in order of how many texts they are active in."""
    given = {"run": run_id, "sae": sae_id, "among": list(among), "n": n}
    return [row[0] for row in store.cursor().execute(_FREQUENT, given).fetchall()]


_Done = frozenset[tuple[str, int, str, str, str, str]]


def _done(run: RunLayout, judge: str) -> _Done:
    """What a judge has scored."""
    return frozenset(
        (one.sae_id, one.feature_id, one.description, one.method, one.model, one.score_type)
        for one in read_scores(run)
        if one.judge == judge
    )


def _open(tasks: Sequence[Task], done: _Done) -> Iterator[Task]:
    """Tasks with what is not done yet; those without anything are left out."""
    for task in tasks:
        e = task.explanation
        if e is None:
            yield task
            continue
        about = (e.sae_id, e.feature_id, e.description, e.method, e.model)
        kinds = tuple(kind for kind in task.kinds if (*about, kind) not in done)
        if kinds:
            yield replace(task, kinds=kinds)
