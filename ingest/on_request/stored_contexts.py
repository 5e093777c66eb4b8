"""Contexts of a run as its store holds them, so that the model can read them again."""

from collections.abc import Sequence

from energylens.db.provenance import RunInfo
from energylens.db.store import Store
from energylens.lens.energy import NO_NEXT

_IDS = """
SELECT t.context_id, t.vocab_id
FROM tokens AS t
WHERE t.run_id = $run AND t.context_id IN (SELECT unnest($contexts::BIGINT[]))
ORDER BY t.token_index
"""
_FOLLOWING = """
SELECT c.context_id, f.vocab_id
FROM contexts AS c
JOIN contexts AS n ON n.run_id = c.run_id AND n.text_id = c.text_id AND n.part = c.part + 1
JOIN tokens AS f ON f.run_id = n.run_id AND f.context_id = n.context_id AND f.pos = $first
WHERE c.run_id = $run AND c.context_id IN (SELECT unnest($contexts::BIGINT[]))
"""


def stored_contexts(
    store: Store, run: RunInfo, contexts: Sequence[int]
) -> list[tuple[list[int], list[int]]]:
    """Ids and next ids of contexts, in the order of their numbers."""
    where = {"run": run.run_id, "contexts": list(contexts)}
    ids: dict[int, list[int]] = {context: [] for context in sorted(contexts)}
    for context, vocab_id in store.cursor().execute(_IDS, where).fetchall():
        ids[context].append(vocab_id)
    first = {"first": 1 if run.prepend_bos else 0}
    after = dict(store.cursor().execute(_FOLLOWING, {**where, **first}).fetchall())
    return [(row, [*row[1:], after.get(context, NO_NEXT)]) for context, row in ids.items() if row]
