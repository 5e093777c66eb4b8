"""Activations that a run keeps, a range of tokens at a time."""

from dataclasses import dataclass

import numpy as np

from energylens.db.provenance import RunInfo
from energylens.db.store import Cursors
from energylens.errors import UsageError

RANGE_TOKENS = 4096
"""Places of tokens in a range."""
_RANGE = """
SELECT a.activation
FROM activations AS a
JOIN tokens AS t ON t.run_id = a.run_id AND t.token_index = a.token_index
WHERE a.run_id = $run AND a.hook_name = $hook AND a.activation IS NOT NULL
    AND a.token_index >= $first AND a.token_index < $end
    AND t.token_index >= $first AND t.token_index < $end
    AND NOT t.is_special AND t.pos > 0
ORDER BY a.token_index
"""


def kept_hooks(store: Cursors, run_id: str, table: str) -> set[str]:
    """Hooks whose vectors every shard of the run holds; `table` is activations or
    energy_gradients."""
    found = store.cursor().execute(
        f"SELECT hook_name, count(*) FROM {table} WHERE run_id = $run GROUP BY hook_name",  # noqa: S608
        {"run": run_id},
    )
    counts = dict(found.fetchall())
    (n,) = (
        store.cursor()
        .execute("SELECT count(*) FROM tokens WHERE run_id = $run", {"run": run_id})
        .fetchall()[0]
    )
    return {hook for hook, count in counts.items() if count == n}


@dataclass(frozen=True)
class KeptActivations:
    """What a run keeps at its text tokens: special tokens and first ones are passed over."""

    store: Cursors
    run: RunInfo

    @property
    def n_ranges(self) -> int:
        """How many ranges of RANGE_TOKENS the run's places make."""
        return -(-self.run.n_contexts * self.run.n_ctx // RANGE_TOKENS)

    def check(self, hook: str) -> None:
        """Make sure that a hook's activations are kept.

        Raises:
            UsageError: they are not; the message says how to keep them.
        """
        kept = sorted(kept_hooks(self.store, self.run.run_id, "activations"))
        if hook not in kept:
            there = f"it keeps those at {', '.join(kept)}; " if kept else ""
            raise UsageError(
                f"the run '{self.run.run_id}' keeps no activations at '{hook}'; {there}to keep "
                f"them: energylens recompute STORE {self.run.run_id} --keep activations "
                f"--hook {hook}"
            )

    def read(self, number: int, hook: str) -> np.ndarray:
        """float32 [n, d_in]: one range at one hook, in the order of the tokens."""
        names = {
            "run": self.run.run_id,
            "hook": hook,
            "first": number * RANGE_TOKENS,
            "end": (number + 1) * RANGE_TOKENS,
        }
        found = self.store.cursor().sql(_RANGE, params=names).to_arrow_table()
        column = found.column(0).combine_chunks()
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(column), -1 if len(column) else 0).copy()
