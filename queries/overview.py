"""What a store holds: runs, SAEs, and what is computed or missing."""

from dataclasses import dataclass

from energylens.db.index_files import IndexState
from energylens.db.provenance import RunInfo
from energylens.db.store import Store
from energylens.queries.holdings import count_routers


@dataclass(frozen=True)
class RunSummary:
    """One run at a glance."""

    info: RunInfo
    n_shards_complete: int
    n_tokens: int
    """Tokens in complete shards."""
    n_texts: int
    """Texts in complete shards."""
    n_codes: int
    """Non-zero feature activations in complete shards."""
    mean_energy: float | None
    """Nats a token at the output, masked tokens left out; None where not computed."""
    index: IndexState
    n_routers: int
    """Routers of the model whose choices the run holds."""
    has_effects: bool
    """`energylens routing` has measured what routing causes."""

    @property
    def is_complete(self) -> bool:
        """Every shard is there."""
        return self.n_shards_complete == self.info.n_shards


def run_summaries(store: Store) -> list[RunSummary]:
    """Every run of a store, newest first."""
    con = store.cursor()
    found = []
    for state in store.runs:
        parameters = {"run": state.info.run_id}
        tokens = con.execute(
            "SELECT count(*), avg(energy) FILTER (NOT is_masked) FROM tokens WHERE run_id = $run",
            parameters,
        ).fetchone()
        texts = con.execute("SELECT count(*) FROM texts WHERE run_id = $run", parameters).fetchone()
        codes = con.execute("SELECT count(*) FROM codes WHERE run_id = $run", parameters).fetchone()
        effects = con.execute(
            "SELECT count(*) FROM energy_permutations WHERE run_id = $run", parameters
        ).fetchone()
        assert tokens and texts and codes and effects, "an aggregate returns one row"
        found.append(
            RunSummary(
                info=state.info,
                n_shards_complete=state.n_complete,
                n_tokens=int(tokens[0]),
                n_texts=int(texts[0]),
                n_codes=int(codes[0]),
                mean_energy=tokens[1],
                index=state.index,
                n_routers=count_routers(store, state.info.run_id),
                has_effects=effects[0] > 0,
            )
        )
    return sorted(found, key=lambda run: (run.info.created, run.info.run_id), reverse=True)
