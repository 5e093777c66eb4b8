"""Excerpts of a run's texts for explaining a feature, and others for judging explanations of it.

Explanations are written from one half of the texts, the half that token patterns are learned from,
and judged on the other.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from energylens.db.store import Store
from energylens.explaining.prompts import Excerpt
from energylens.explaining.scoring import Sample

N_TOP, N_INTERVALS, N_EACH = 20, 5, 4
"""Excerpts an explanation is written from: the strongest contexts, and as many tokens from each
interval of the activation."""
N_JUDGED = 50
"""Excerpts of either kind that an explanation is judged on."""
REACH = 16
"""Tokens on either side of the one that an excerpt is about."""
_SILENT_CONTEXTS = 1000
"""Contexts that are looked through for silence."""

HALF = "(((c.text_id * 2654435761) % 4294967296) >> 13) % 2"
_ACTIVE = f"""
active AS (
    SELECT t.context_id, t.pos, c.text_id, a.token_index, abs(a.activation)::DOUBLE AS activation
    FROM feature_codes AS a
    JOIN tokens AS t ON t.run_id = $run AND t.token_index = a.token_index
    JOIN contexts AS c ON c.run_id = $run AND c.context_id = t.context_id
    WHERE a.run_id = $run AND a.sae_id = $sae AND a.feature_id = $feature
        AND NOT t.is_masked AND {HALF} = $half
),
peaks AS (
    SELECT context_id, arg_max(pos, activation) AS pos, any_value(text_id) AS text_id,
        max(activation) AS activation
    FROM active
    GROUP BY context_id
),
top AS (FROM peaks ORDER BY activation DESC, context_id LIMIT $n_top),
drawn AS (
    SELECT * FROM active
    WHERE context_id NOT IN (SELECT context_id FROM top)
    QUALIFY row_number() OVER (PARTITION BY context_id ORDER BY hash(token_index), token_index) = 1
)
"""  # noqa: S608
_TOP = f"WITH {_ACTIVE} SELECT context_id, pos, text_id FROM top ORDER BY activation DESC"  # noqa: S608
_INTERVALS = f"""
WITH {_ACTIVE},
shape AS (SELECT min(activation) AS low, max(activation) - min(activation) AS spread FROM active),
placed AS (
    SELECT d.*,
        CASE WHEN s.spread > 0
            THEN least(floor((d.activation - s.low) / s.spread * $n_intervals), $n_intervals - 1)
            ELSE 0 END AS interval_id
    FROM drawn AS d, shape AS s
)
SELECT context_id, pos, text_id
FROM placed
QUALIFY row_number() OVER (
    PARTITION BY interval_id ORDER BY hash(token_index), token_index
) <= $n_each
ORDER BY activation DESC
"""  # noqa: S608
_DRAWN = f"""
WITH {_ACTIVE}
SELECT context_id, pos, text_id FROM drawn
ORDER BY hash(token_index), token_index LIMIT $n
"""  # noqa: S608
_OTHERS = f"""
SELECT c.context_id, NULL AS pos, c.text_id FROM contexts AS c
WHERE c.run_id = $run AND {HALF} = 1
ORDER BY hash(c.context_id + $feature), c.context_id
LIMIT $n OFFSET $start
"""  # noqa: S608
_TOKENS = """
SELECT t.context_id, t.pos, t.token_bytes, t.is_special,
    CASE WHEN t.is_masked THEN 0 ELSE abs(coalesce(a.activation, 0)) END::DOUBLE AS strength
FROM tokens AS t
LEFT JOIN (
    SELECT token_index, activation FROM feature_codes
    WHERE run_id = $run AND sae_id = $sae AND feature_id = $feature
) AS a ON a.token_index = t.token_index
WHERE t.run_id = $run AND t.context_id IN (SELECT unnest($contexts::BIGINT[]))
ORDER BY t.context_id, t.token_index
"""


@dataclass(frozen=True)
class _Token:
    pos: int
    data: bytes
    is_special: bool
    strength: float
    """0 where the feature is silent, or the token is masked."""


@dataclass(frozen=True)
class _Place:
    context_id: int
    pos: int
    text_id: int


class Excerpts:
    """Draws excerpts of one SAE's features; asking again gives the same."""

    def __init__(self, store: Store, run_id: str, sae_id: str) -> None:
        self._store = store
        self._names = {"run": run_id, "sae": sae_id}

    def to_explain(self, feature: int) -> list[Excerpt]:
        """The strongest contexts of a feature, then tokens of every strength, strongest first;
        none where the feature is silent in that half of the texts."""
        given = self._names | {"feature": feature, "half": 0, "n_top": N_TOP}
        sizes = {"n_intervals": N_INTERVALS, "n_each": N_EACH}
        top, others = self._places(_TOP, given), self._places(_INTERVALS, given | sizes)
        made = self._around(feature, [*top, *others])
        strongest = max((max(one.strengths) for one in made), default=0.0)
        return [
            Excerpt(
                one.text_id,
                one.tokens,
                one.marked,
                tuple(strength / strongest for strength in one.strengths),
            )
            for one in made
        ]

    def to_judge(self, feature: int) -> Sample:
        """As many excerpts in which a feature is active as in which it is not; fewer than
        `N_JUDGED` of each where there are no more."""
        given = self._names | {"feature": feature, "half": 1, "n_top": 0, "n": N_JUDGED}
        active = self._around(feature, self._places(_DRAWN, given))
        silent = self._silent(feature, len(active))
        active = active[: len(silent)]
        by_chance = random.Random(feature)
        return Sample(
            tuple(active),
            tuple(
                _marked_like(one, other, by_chance)
                for one, other in zip(silent, active, strict=True)
            ),
        )

    def _silent(self, feature: int, n: int) -> list[Excerpt]:
        """Excerpts of n contexts, or fewer, around a token by chance, without an active token."""
        found: list[Excerpt] = []
        by_chance = random.Random(feature)
        for start in range(0, _SILENT_CONTEXTS, N_JUDGED):
            given = {"run": self._names["run"], "feature": feature, "n": N_JUDGED, "start": start}
            rows = self._store.cursor().execute(_OTHERS, given).fetchall()
            tokens = self._tokens(feature, [context for context, _, _ in rows])
            for context, _, text in rows:
                if len(found) == n:
                    return found
                found += _silent_in(text, tokens.get(context, []), by_chance)
            if len(rows) < N_JUDGED:
                break
        return found[:n]

    def _places(self, sql: str, given: dict[str, Any]) -> list[_Place]:
        return [_Place(*row) for row in self._store.cursor().execute(sql, given).fetchall()]

    def _around(self, feature: int, places: Sequence[_Place]) -> list[Excerpt]:
        tokens = self._tokens(feature, [one.context_id for one in places])
        return [_excerpt(p.text_id, _near(tokens[p.context_id], p.pos)) for p in places]

    def _tokens(self, feature: int, contexts: Sequence[int]) -> dict[int, list[_Token]]:
        given = self._names | {"feature": feature, "contexts": list(contexts)}
        rows = self._store.cursor().execute(_TOKENS, given).fetchall()
        return {
            context: [_Token(*row[1:]) for row in own]
            for context, own in groupby(rows, lambda row: row[0])
        }


def _near(tokens: Sequence[_Token], pos: int) -> list[_Token]:
    """Tokens of a context around a position; its tokens have every position from the first on."""
    place = pos - tokens[0].pos
    around = tokens[max(0, place - REACH) : place + REACH + 1]
    return [one for one in around if not one.is_special]


def _excerpt(text_id: int, tokens: Sequence[_Token]) -> Excerpt:
    return Excerpt(
        text_id,
        tuple(one.data for one in tokens),
        tuple(one.strength > 0 for one in tokens),
        tuple(one.strength for one in tokens),
    )


def _silent_in(text_id: int, tokens: Sequence[_Token], by_chance: random.Random) -> list[Excerpt]:
    """One excerpt of a context without an active token, or none."""
    centres = [one.pos for one in tokens if not one.is_special]
    by_chance.shuffle(centres)
    around = (_near(tokens, pos) for pos in centres)
    silent = next((near for near in around if not any(one.strength for one in near)), None)
    return [] if silent is None else [_excerpt(text_id, silent)]


def _marked_like(silent: Excerpt, active: Excerpt, by_chance: random.Random) -> Excerpt:
    """A silent excerpt with as many tokens marked as an active one has."""
    n = min(sum(active.marked), len(silent.tokens))
    chosen = set(by_chance.sample(range(len(silent.tokens)), n))
    marked = tuple(place in chosen for place in range(len(silent.tokens)))
    return Excerpt(silent.text_id, silent.tokens, marked, silent.strengths)
