"""What Neuronpedia's importer takes in of an SAE (its v1 export), a folder of JSON lines.

    {model}/{layer}-{set}/release.jsonl, model.jsonl, sourceset.jsonl, source.jsonl    a line each
    .../features/batch-N.jsonl.gz        statistics, histograms, tokens, neighbours (table Neuron)
    .../activations/batch-N.jsonl.gz     contexts of each feature (table Activation)
    .../explanations/batch-N.jsonl.gz    what features are said to stand for (table Explanation)
    .../scores/batch-N.jsonl.gz          how well that does (table ExplanationScore)

A batch is of 1,024 features; one without a row has no file, for the importer stumbles over it. It
takes the columns of a file from the first line, and passes over a row whose key it has already.
"""

import gzip
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

import energylens
from energylens.db.folders import new_folder
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.db.store import Store
from energylens.errors import QueryError, UsageError
from energylens.ingest.exchange.names import plain_name, without_folder
from energylens.ingest.exchange.neuronpedia_rows import MOST_TOKENS, Names, Rows
from energylens.ingest.exchange.neuronpedia_words import explanations, utc_time
from energylens.ingest.progress import Progress
from energylens.queries.names import find_sae

BATCH = 1024
"""Features in a file."""
CREATOR = "clkht01d40000jv08hvalcvly"
"""The user that a new Neuronpedia begins with, to whom rows of unknown makers belong."""
NOT_KNOWN = (
    "not in a store, and NULL or empty: vectors and their weights, alignment and correlation with "
    "neurons, neurons of a layer (0), UMAP, direct feature attribution, attention, loss of tokens"
)
_NAME = re.compile(r"([a-z0-9_-]{1,128})/([0-9]{1,4}-[A-Za-z0-9_-]{1,128})")
_LEVEL = 4
"""Of gzip: tokens and zeros are small at any."""


@dataclass(frozen=True)
class Written:
    """What was written."""

    name: str
    """Model and source, as they are called there."""
    n_features: int
    n_contexts: int
    n_explanations: int
    n_scores: int


def export_neuronpedia(
    store: Store, run: str, sae: str | None, folder: Path, name: str | None, progress: Progress
) -> Written:
    """Write one SAE of a run to a new folder; None is the only one.

    `name` is MODEL/LAYER-SET, as Neuronpedia is to call it; None takes the name that it goes by
    there, or else one made of the names of the model and the SAE.

    Raises:
        UsageError: the folder is there already, the name is none, or the run is not finished.
        UnknownNameError: the run has no such SAE.
        QueryError: the run has no index of its SAEs.
        StoreBusyError: another process makes the folder.
        StoreError: the disk cannot be written.
    """
    state = store.run(run)
    info, found = state.info, find_sae(state.info, sae)
    if state.n_complete < info.n_shards:
        raise UsageError(
            f"'{run}' is not finished, and features are shown over all texts; go on with ingest"
        )
    names = _names(info, found, name)
    con = store.cursor()
    counted = "SELECT count(*) FROM features WHERE run_id = $run AND sae_id = $sae"
    ((n,),) = con.execute(counted, {"run": run, "sae": found.sae_id}).fetchall()
    if n < found.d_sae:
        raise QueryError(f"the run '{run}' has no index of its SAEs: energylens index")
    with new_folder(folder) as tree:
        place = tree / names.model / names.source
        place.mkdir(parents=True)
        for table, row in _heads(info, found, names).items():
            line = json.dumps(row, allow_nan=False) + "\n"
            (place / f"{table}.jsonl").write_bytes(_safe(line.encode()))
        n_rows = [0, 0, 0, 0]
        rows = Rows(con, names)
        for batch, first in enumerate(range(0, found.d_sae, BATCH)):
            progress.step("features", first, found.d_sae, "features")
            end = min(first + BATCH, found.d_sae)
            said, scores = explanations(con, names, first, end)
            parts: dict[str, Iterable[pl.DataFrame]] = {
                "features": [rows.neurons(first, end)],
                "activations": rows.activations(first, end),
                "explanations": [said],
                "scores": [scores],
            }
            for number, (part, frames) in enumerate(parts.items()):
                n_rows[number] += _write(place / part / f"batch-{batch}.jsonl.gz", frames)
        progress.step("features", found.d_sae, found.d_sae, "features")
    return Written(f"{names.model}/{names.source}", *n_rows)


def _write(path: Path, frames: Iterable[pl.DataFrame]) -> int:
    """Write rows as lines, and no file where there are none; how many there were. There is no time
    in the file."""
    filled = (rows for rows in frames if not rows.is_empty())
    first = next(filled, None)
    if first is None:
        return 0
    path.parent.mkdir(exist_ok=True)
    n_rows = 0
    with path.open("wb") as raw, gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as file:
        for rows in chain([first], filled):
            lines = BytesIO()
            rows.write_ndjson(lines)
            file.write(_safe(lines.getvalue()))
            n_rows += len(rows)
    return n_rows


def _safe(lines: bytes) -> bytes:
    """JSON as the importer can take it, which puts a space for whatever looks like an escaped NUL:
    also where a text has a backslash before u0000, which would no longer be JSON."""
    return lines.replace(rb"\\u0000", rb"\u005cu0000").replace(rb"\u0000", b" ")


def _names(info: RunInfo, sae: SaeInfo, given: str | None) -> Names:
    if given is not None and not _NAME.fullmatch(given):
        raise UsageError(
            f"'{given}' is no name there; give MODEL/LAYER-SET of letters, digits, dashes and "
            "underscores, the model in small letters, as in gpt2-small/8-res-jb"
        )
    its = sae.neuronpedia_id or ""
    name = given or (its if _NAME.fullmatch(its) else _made_name(info, sae))
    model, source = name.split("/")
    try:
        created = utc_time(info.created)
    except ValueError:
        raise UsageError(
            f"the record of '{info.run_id}' tells no time at which it was begun "
            f"('{info.created}'), which every row has"
        ) from None
    return Names(
        run=info.run_id,
        sae=sae.sae_id,
        model=model,
        source=source,
        hook=sae.hook_name,
        creator=CREATOR,
        created=created,
        n_ctx=info.n_ctx,
    )


def _made_name(info: RunInfo, sae: SaeInfo) -> str:
    own = re.sub(r"blocks\.\d+\.", "", sae.sae_id)
    model = plain_name(info.model.rstrip("/").rpartition("/")[2], 128)
    return f"{model}/{max(sae.layer, 0)}-{plain_name(own, 100)}"


def _heads(info: RunInfo, sae: SaeInfo, names: Names) -> dict[str, dict[str, Any]]:
    """The rows that features belong to, each in a file of its own."""
    shared = {
        "visibility": "PUBLIC",
        "creatorId": names.creator,
        "createdAt": names.created,
    }
    model, texts = without_folder(info.model), without_folder(info.texts)
    maker = f"energylens {energylens.__version__}"
    about = f"{sae.sae_id} ({sae.architecture}, {sae.d_sae:,} features) on {texts}"
    release = plain_name(sae.release or f"energylens-{names.model}-{names.set}", 128)
    return {
        "release": {
            "name": release,
            "description": f"{model}: {about}",
            "descriptionShort": about,
            "urls": [],
            "creatorName": maker,
            "creatorNameShort": maker,
            "defaultUmapSourceIds": [],
        }
        | shared,
        "model": {
            "id": names.model,
            "displayNameShort": names.model,
            "displayName": model,
            "dimension": info.d_model,
            "layers": info.n_layers,
            "neuronsPerLayer": 0,
            "owner": model.rpartition("/")[0],
            "updatedAt": names.created,
        }
        | shared,
        "sourceset": {
            "modelId": names.model,
            "name": names.set,
            "hasDashboards": True,
            "allowInferenceSearch": False,
            "description": about,
            "type": sae.stream,
            "creatorName": maker,
            "urls": [],
            "releaseName": release,
            "showCorrelated": True,
        }
        | shared,
        "source": {
            "id": names.source,
            "modelId": names.model,
            "setName": names.set,
            "hasDashboards": True,
            "saelensConfig": _config(sae),
            "saelensRelease": sae.release,
            "saelensSaeId": sae.source.removeprefix(f"{sae.release}/") if sae.release else None,
            "num_prompts": info.n_contexts,
            "num_tokens_in_prompt": min(info.n_ctx, MOST_TOKENS),
            "dataset": texts,
            "notes": f"made by {maker} of the run {info.run_id}; masked tokens (special, first in "
            f"their context, sinks) are silent here; {NOT_KNOWN}",
        }
        | shared,
    }


def _config(sae: SaeInfo) -> dict[str, object]:
    names = (
        "architecture", "hook_name", "hook_head_index", "d_in", "d_sae", "normalize_activations",
        "weights_sha256",
    )  # fmt: skip
    return {name: getattr(sae, name) for name in names}
