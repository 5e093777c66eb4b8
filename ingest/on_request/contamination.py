"""Was an SAE, or a model, trained on a run's texts? As far as a record tells, or texts that are
named."""

import hashlib
from collections.abc import Iterator

from energylens.db.provenance import RunInfo
from energylens.db.store import Store
from energylens.ingest.texts import iter_texts
from energylens.lens.saes import Sae

_BUNDLED = "builtin:"
_SHAS = "SELECT sha256 FROM texts WHERE run_id = $run"


def trained_on(store: Store, run: RunInfo, sae: Sae, texts: str | None = None) -> int | None:
    """How many texts of a run are among those that an SAE was trained on; None where nothing tells.

    `texts` says where the training texts lie. Without it the SAE's record does: the same checksum
    or the same place as the run's is all of them. A place that only the record names is not opened,
    unless it is what comes along: a record may be anybody's.

    Raises:
        TextsError: `texts` cannot be read.
    """
    if texts is None:
        record = dict(sae.module.cfg.metadata.items())
        named, digest = record.get("texts"), record.get("texts_sha256")
        if digest == run.texts_sha256 or (named is not None and named == run.texts):
            return run.n_texts
        if not isinstance(named, str) or not named.startswith(_BUNDLED):
            return None
        texts = named
    return among(store, run, texts)


def among(store: Store, run: RunInfo, texts: str) -> int:
    """How many texts of a run are among those that lie at a place.

    Raises:
        TextsError: they cannot be read.
    """
    known = set(_digests(texts))
    rows = store.cursor().execute(_SHAS, {"run": run.run_id}).fetchall()
    return sum(sha256 in known for (sha256,) in rows)


def _digests(texts: str) -> Iterator[str]:
    for text in iter_texts(texts):
        yield hashlib.sha256(text.text.encode()).hexdigest()
