"""What a run really holds, table by table: what every word about something missing is told from."""

from dataclasses import dataclass

from energylens.db.index_files import IndexState
from energylens.db.provenance import RunInfo
from energylens.db.store import Cursors, RunState

_OF_RUN = {
    "tokens": "tokens WHERE run_id = $run",
    "energy": "tokens WHERE run_id = $run AND energy IS NOT NULL",
    "lens": "energies WHERE run_id = $run AND energy IS NOT NULL",
    "categories": "texts WHERE run_id = $run AND category IS NOT NULL",
    "routing": "routing WHERE run_id = $run",
    "routing_layers": "routing_layers WHERE run_id = $run",
    "paths": "routing_circuits WHERE run_id = $run",
    "effects": "energy_permutations WHERE run_id = $run",
    "heads": "heads WHERE run_id = $run",
}
_OF_SAE = {
    "codes": "codes WHERE run_id = $run AND sae_id = $sae",
    "features": "features WHERE run_id = $run AND sae_id = $sae",
    "specialists": "specialists WHERE run_id = $run AND sae_id = $sae",
    "coactivation": "coactivation WHERE run_id = $run AND sae_id = $sae",
    "clusters": "coactivation_clusters WHERE run_id = $run AND sae_id = $sae",
    "anchor_features": "routing_features WHERE run_id = $run AND sae_id = $sae",
    "explanations": "explanations WHERE run_id = $run AND sae_id = $sae",
}
_MOST_ROUTES = 100_000
"""Rows of routing that are looked at to count routers; rows of all of them stand at each token."""


@dataclass(frozen=True)
class Holdings:
    """What there are rows of."""

    info: RunInfo
    n_complete: int
    """Shards that are complete."""
    index: IndexState
    sae_id: str | None
    """The SAE that was asked about."""
    has: frozenset[str]
    """Names of `_OF_RUN` and `_OF_SAE`."""
    efas: frozenset[str]
    """Variants of EFAS that any of the SAE's features was tested in."""

    @property
    def layer_before_drop(self) -> int | None:
        """From where it is told what later blocks are worth to the SAE's features, if from
        anywhere."""
        saes = (sae for sae in self.info.saes if sae.sae_id == self.sae_id)
        return next(map(self.info.layer_before_drop, saes), None)


def holdings(reader: Cursors, state: RunState, sae_id: str | None) -> Holdings:
    """What a run holds, of one of its SAEs too where one is named."""
    asked = {"run": state.info.run_id}
    wanted = dict(_OF_RUN)
    if sae_id is not None:
        asked["sae"] = sae_id
        wanted |= _OF_SAE
    con = reader.cursor()
    exists = [f"EXISTS (SELECT 1 FROM {rows})" for rows in wanted.values()]  # noqa: S608
    found = con.execute(f"SELECT {', '.join(exists)}", asked).fetchone()
    assert found is not None, "a SELECT without FROM has one row"
    variants: list[tuple] = []
    if sae_id is not None:
        variants = con.execute(
            "SELECT DISTINCT variant FROM efas WHERE run_id = $run AND sae_id = $sae "
            "AND t IS NOT NULL",
            asked,
        ).fetchall()
    return Holdings(
        state.info,
        state.n_complete,
        state.index,
        sae_id,
        frozenset(name for name, is_there in zip(wanted, found, strict=True) if is_there),
        frozenset(name for (name,) in variants),
    )


def count_routers(reader: Cursors, run: str) -> int:
    """Routers whose choices the run holds, whether it has an index or not."""
    row = (
        reader.cursor()
        .execute(
            "SELECT count(DISTINCT router) FROM (SELECT router FROM routing WHERE run_id = $run "
            "LIMIT $most)",
            {"run": run, "most": _MOST_ROUTES},
        )
        .fetchone()
    )
    assert row is not None, "an aggregate returns one row"
    return int(row[0])
