"""Add to a finished run what its ingest did not keep; only what is missing is computed.

An addition is as many further shards as the run has, numbered behind those there are, so that it is
interrupted and taken up again as an ingest is.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from energylens.db.change import change_run
from energylens.db.kept import kept_hooks
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.leftovers import clean_store
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.db.shards import ShardWriter, write_shard
from energylens.db.sources import in_place
from energylens.db.store import Store, open_store
from energylens.db.table import constants
from energylens.db.vectors import ENERGY_GRADIENTS, KEPT_ACTIVATIONS
from energylens.errors import CheckRefusedError, UsageError
from energylens.ingest.machine import this_machine
from energylens.ingest.measure import measure
from energylens.ingest.names import is_same, named_beside
from energylens.ingest.on_request.reopen import reopen_texts
from energylens.ingest.plan import KEEP, sae_info
from energylens.ingest.progress import Progress
from energylens.ingest.reading import Reading
from energylens.ingest.rows import RowMaker
from energylens.ingest.run import blocks
from energylens.lens.gate import GateResult, GateSums
from energylens.lens.gradients import VARIANTS
from energylens.lens.saes import Sae, load_saes, writes_to_stream
from energylens.queries.catalog import write_catalog

_ROWS = 8192
"""Tokens encoded at once."""
_TABLES = {"activations": KEPT_ACTIVATIONS, "gradients": (ENERGY_GRADIENTS,)}
_VECTORS = """
SELECT a.token_index, a.activation
FROM activations AS a
WHERE a.run_id = $run AND a.hook_name = $hook
    AND a.token_index >= $first AND a.token_index < $end
ORDER BY a.token_index
"""
_GRADIENTS = """
SELECT g.token_index, g.gradient
FROM energy_gradients AS g
WHERE g.run_id = $run AND g.hook_name = $hook
    AND g.token_index >= $first AND g.token_index < $end
ORDER BY g.token_index
"""
_MASKED = """
SELECT t.token_index FROM tokens AS t
WHERE t.run_id = $run AND t.is_masked AND t.token_index >= $first AND t.token_index < $end
"""


def add_vectors(store: Path, run_id: str, what: str, hook: str, progress: Progress) -> int:
    """Keep the activations or lens gradients at a hook, by running the run's texts through its
    model again; how many shards were missing.

    Raises:
        UsageError: there is no such hook, or model or texts are not the run's.
    """
    if what not in KEEP:
        raise UsageError(f"--keep knows {' and '.join(KEEP)}, not '{what}'")
    with open_store(store) as opened:
        run = opened.run(run_id).info
        if hook in kept_hooks(opened, run_id, _TABLES[what][0].name):
            clean_store(store)  # one that was killed at its last step may have left something
            if not opened.layout.catalog.exists():
                write_catalog(store)
            progress.say(f"the {what} at {hook} are there already")
            return 0
    loaded = reopen_texts(store, run, hooks=(hook,), keep=(what,))
    layout = StoreLayout(store).run(run_id)
    clean_store(store)
    missing = _begin(layout, f"{what} {hook}")
    tables = tuple(table.name for table in _TABLES[what])
    rows = RowMaker(run_id, run.n_ctx, loaded.instruments.model.tokenizer, np.zeros(0))
    done = 0
    reading = Reading(loaded.corpus, loaded.plan)
    for source in sorted(missing):
        with write_shard(layout, missing[source], tables, this_machine()) as writer:
            for block in blocks(reading.shard(source)):
                if not block.contexts:
                    continue
                measured = measure(loaded.instruments, block.contexts)
                found = (
                    rows.activations(hook, measured.activations[hook], block.contexts)
                    if what == "activations"
                    else rows.gradients(hook, measured.gradients["lens", hook], block.contexts)
                )
                for table, arrow in found:
                    writer.write(table, arrow)
                done += block.n_tokens
                progress.step(what, done, loaded.plan.n_tokens, "tokens")
    write_catalog(store)
    return len(missing)


def add_sae(
    store: Path, run_id: str, source: str, accept_gate: bool, progress: Progress
) -> tuple[str, int]:
    """Encode stored activations with another SAE, without a forward pass; its id, and how many
    shards were missing: none where the run has this very SAE. Where its name is another SAE's, it
    gets one of its own.

    Raises:
        UsageError: the run keeps no activations at the SAE's hook.
        CheckRefusedError: the gate refuses the SAE and `accept_gate` is not set.
    """
    sae = _only(load_saes([source]), source)
    layout = StoreLayout(store).run(run_id)
    with open_store(store) as opened:
        run = opened.run(run_id).info
        known = _of(run, sae)
        if known is not None and _codes(known.sae_id) not in run.additions:
            return known.sae_id, 0
        if sae.hook_name not in kept_hooks(opened, run_id, "activations"):
            raise UsageError(
                f"the run '{run_id}' keeps no activations at '{sae.hook_name}'; first: energylens "
                f"recompute {store} {run_id} --keep activations --hook {sae.hook_name}"
            )
        sae = _flat(sae)
        if known is None:
            result = _gate(opened, run, sae, progress)
            if result.refusal is not None and not accept_gate:
                raise CheckRefusedError(
                    f"the gate refuses {sae.sae_id}: {result.refusal}; to add it all the same: "
                    "--accept-gate"
                )
            run, known = _record(layout, sae, result)
        sae = replace(sae, sae_id=known.sae_id)
        clean_store(store)
        missing = _begin(layout, _codes(sae.sae_id))
        bounds = _bounds(opened, run, layout)
        for source_shard, number in missing.items():
            with write_shard(layout, number, ("codes",), this_machine()) as writer:
                _encode_shard(opened, run, sae, bounds[source_shard], writer)
            progress.step("encoding", source_shard + 1, run.n_shards, "shards")
    write_catalog(store)
    return sae.sae_id, len(missing)


def _codes(sae_id: str) -> str:
    """What the addition of an SAE is called in the run's record."""
    return f"codes {sae_id}"


def _of(run: RunInfo, sae: Sae) -> SaeInfo | None:
    """The record of this very SAE, whatever it is called; None where the run has it not."""
    return next((info for info in run.saes if is_same(sae, info)), None)


def _record(layout: RunLayout, sae: Sae, result: GateResult) -> tuple[RunInfo, SaeInfo]:
    """Write an SAE into the run's record, under a name that is free at that moment."""

    def add(run: RunInfo) -> RunInfo:
        if _of(run, sae) is not None:
            return run  # another process was quicker
        named = named_beside(sae, [one.sae_id for one in run.saes])
        return replace(
            run,
            saes=[*run.saes, sae_info(named, result)],
            additions=[*run.additions, _codes(named.sae_id)],
        )

    run = change_run(layout, add)
    info = _of(run, sae)
    assert info is not None, "it has just been added"
    return run, info


def _begin(layout: RunLayout, name: str) -> dict[int, int]:
    """Record an addition, or find it; the shards it lacks, as {run's shard: its own number}."""

    def add(run: RunInfo) -> RunInfo:
        return run if name in run.additions else replace(run, additions=[*run.additions, name])

    run = change_run(layout, add)
    first = (run.additions.index(name) + 1) * run.n_shards
    numbers = {shard: first + shard for shard in range(run.n_shards)}
    return {
        shard: number
        for shard, number in numbers.items()
        if (layout.shard(shard) / "manifest.json").exists()
        and not (layout.shard(number) / "manifest.json").exists()
    }


def _only(saes: list[Sae], source: str) -> Sae:
    if len(saes) != 1:
        raise UsageError(f"'{source}' holds {len(saes)} SAEs; give the folder of one")
    return saes[0]


def _flat(sae: Sae) -> Sae:
    """Make an SAE take stored vectors, which have no heads."""
    if sae.architecture == "temporal":
        raise UsageError(f"'{sae.sae_id}' looks back along its text; ingest with it instead")
    if getattr(sae.module.cfg, "reshape_activations", "none") == "hook_z":
        sae.module.turn_off_forward_pass_hook_z_reshaping()
    return sae


def _gate(store: Store, run: RunInfo, sae: Sae, progress: Progress) -> GateResult:
    if sae.target_hook != sae.hook_name:
        raise UsageError(
            f"'{sae.sae_id}' predicts '{sae.target_hook}' from '{sae.hook_name}'; a transcoder "
            "needs both, so ingest with it instead"
        )
    sums = GateSums(sae.d_sae)
    end = run.n_contexts * run.n_ctx
    for index, x in _read(store, _VECTORS, run, sae.hook_name, (0, end)):
        names = {"run": run.run_id, "first": int(index[0]), "end": int(index[-1]) + 1}
        masked = store.cursor().execute(_MASKED, names).fetchnumpy()["token_index"]
        kept = torch.from_numpy(~np.isin(index, np.asarray(masked)))
        with torch.no_grad():
            sums.add(
                sae.encode(x[None])[0][kept],
                sae.prepare(x)[kept],
                sae.reconstruct(x[None])[0][kept],
            )
        progress.step("gate", int(index[-1]) + 1, end, "places")
    return sums.result(sae.declared_l0, None)


def _read(
    store: Store, query: str, run: RunInfo, hook: str, bounds: tuple[int, int]
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Tokens and their vectors at a hook, a few thousand at a time; NULL vectors are left out."""
    for first in range(bounds[0], bounds[1], _ROWS):
        names = {
            "run": run.run_id,
            "hook": hook,
            "first": first,
            "end": min(first + _ROWS, bounds[1]),
        }
        found = store.cursor().sql(query, params=names).to_arrow_table()
        column = found.column(1).combine_chunks()
        keep = column.is_valid().to_numpy(zero_copy_only=False)
        if not keep.any():
            continue
        flat = column.flatten().to_numpy(zero_copy_only=False)
        index = found.column(0).to_numpy()[keep]
        yield index, torch.from_numpy(flat.reshape(len(index), -1).copy())


def _bounds(store: Store, run: RunInfo, layout: RunLayout) -> dict[int, tuple[int, int]]:
    """The token_index range of each of the run's shards."""
    bounds = {}
    for shard in range(run.n_shards):
        path = layout.shard(shard) / "tokens.parquet"
        if path.exists():
            found = store.cursor().execute(
                f"SELECT min(token_index), max(token_index) + 1 FROM {in_place([path])}"  # noqa: S608
            )
            bounds[shard] = found.fetchall()[0]
    return bounds


def _encode_shard(
    store: Store, run: RunInfo, sae: Sae, bounds: tuple[int, int], writer: ShardWriter
) -> None:
    slope = _slopes(store, run, sae)
    for index, x in _read(store, _VECTORS, run, sae.hook_name, bounds):
        with torch.no_grad():
            codes = sae.encode(x[None])[0]
        token, feature = codes.nonzero(as_tuple=True)
        n = len(token)
        g = slope(index, x, token, feature)
        writer.write(
            "codes",
            pa.table(
                {
                    **constants(n, run_id=run.run_id, sae_id=sae.sae_id),
                    "token_index": index[token.numpy()],
                    "feature_id": feature.numpy().astype(np.int32),
                    "activation": codes[token, feature].float().numpy(),
                    **{
                        f"g_{v}": g if v == "lens" and g is not None else pa.nulls(n, pa.float32())
                        for v in VARIANTS
                    },
                }
            ),
        )


def _slopes(store: Store, run: RunInfo, sae: Sae) -> Callable[..., pa.Array | None]:
    """g = -dE/dz of the lens at codes, where the run keeps gradients at the SAE's hook."""
    kept = kept_hooks(store, run.run_id, "energy_gradients")
    stored = writes_to_stream(sae.hook_name) and sae.hook_name in kept

    def at(
        index: np.ndarray, x: torch.Tensor, token: torch.Tensor, feature: torch.Tensor
    ) -> pa.Array | None:
        if not stored:
            return None
        bounds = (int(index[0]), int(index[-1]) + 1)
        gradient = torch.full((len(index), x.shape[1]), torch.nan)
        for known, values in _read(store, _GRADIENTS, run, sae.hook_name, bounds):
            gradient[torch.from_numpy(np.searchsorted(index, known))] = values
        scale = sae.write_scale(x)
        written = sae.write_directions[feature]
        g = -(gradient[token] * written).sum(1)
        values = (g if scale is None else g * scale[token]).numpy()
        return pa.array(values, mask=np.isnan(values))

    return at
