"""What the index reads off weights: computed where the weights are, else kept from before, and what
is left out is said."""

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from energylens.db.index_files import IndexWriter, entries_of, index_file, index_state
from energylens.db.layout import RunLayout
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.errors import UsageError, why_no_models
from energylens.ingest.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from energylens.ingest.index.weights import Decoder, WeightReader

WEIGHT_TABLES = (
    *("feature_logits", "logit_distributions", "feature_neighbours", "feature_map"),
    "feature_readers",
)
"""Read off weights alone: they outlive a rebuild on a machine without them."""
GRADIENT_TABLES = ("efas", "efas_categories")
"""Made from codes and weights: they outlive a rebuild only over the same shards."""
_NAMES = {
    "feature_logits": "logit weights",
    "logit_distributions": "their distributions",
    "feature_neighbours": "neighbours",
    "features": "decoder norms",
    "efas": "EFAS by gradients of the model",
    "feature_map": "maps",
    "feature_readers": "readers",
}
"""What is told of the tables that weights have a part in."""


class FromWeights:
    """The weights of one run's SAEs, as far as they are to be had here."""

    def __init__(self, run: RunInfo, layout: RunLayout) -> None:
        self._run, self._layout = run, layout
        self._reader: WeightReader | None = None
        self._why_none: str | None = None
        self._why: dict[str, str] = {}
        """Why the tables of an SAE could not be made."""
        self._kept: dict[str, list[str]] = {}
        """Which of them were kept from before."""

    def can_add(self) -> bool:
        """Whether weights are here that were not when the index was made."""
        return any(self._has(sae) for sae in self._run.saes if self._lacks(sae))

    def write(self, writer: IndexWriter, sae: SaeInfo) -> "Decoder | None":
        """Write WEIGHT_TABLES of one SAE; its decoder, None where the weights are not here."""
        try:
            return self._open().write(writer, sae)
        except UsageError as error:
            self._why[sae.sae_id] = str(error)
            self._keep_all(writer, sae, WEIGHT_TABLES)
            return None

    def keep_efas(self, writer: IndexWriter, sae: SaeInfo) -> bool:
        """Take over GRADIENT_TABLES from an index of the same shards; whether there was one."""
        if index_state(self._layout) != "fresh":
            return False
        return self._keep_all(writer, sae, GRADIENT_TABLES)

    def directions(self, sae: SaeInfo) -> "np.ndarray | None":
        """[d_sae, d_out]: what each feature writes; None where the weights are not here."""
        try:
            return self._open().directions(sae)
        except UsageError:
            return None

    def tell(self, progress: Progress) -> None:
        """Say in a line what was left out or kept, and why."""
        alike: dict[tuple[frozenset[str], str], list[str]] = {}
        for sae_id, why in self._why.items():
            kept = frozenset(self._kept.get(sae_id, ()))
            alike.setdefault((kept, why), []).append(sae_id)
        for (kept, why), saes in alike.items():
            which = "every SAE" if len(saes) == len(self._run.saes) else ", ".join(saes)
            old = [name for table, name in _NAMES.items() if table in kept]
            out = [name for table, name in _NAMES.items() if table not in kept]
            parts = [(old, "are kept as they were"), (out, "are left out")]
            done = ", ".join(f"{_listed(names)} {verb}" for names, verb in parts if names)
            progress.say(f"{done} for {which} of {self._run.run_id}: {why}")

    def _open(self) -> "WeightReader":
        """Raises UsageError where models cannot be run here, or this one is not to be had."""
        if self._why_none is not None:
            raise UsageError(self._why_none)
        if self._reader is None:
            try:
                from energylens.ingest.index.weights import WeightReader

                self._reader = WeightReader(self._run)
            except ModuleNotFoundError as error:
                self._why_none = str(why_no_models(error))
                raise UsageError(self._why_none) from error
            except UsageError as error:
                self._why_none = str(error)
                raise
        return self._reader

    def _has(self, sae: SaeInfo) -> bool:
        try:
            self._open().directions(sae)
        except UsageError as error:
            self._why[sae.sae_id] = str(error)
            return False
        return True

    def _lacks(self, sae: SaeInfo) -> bool:
        """Whether the index of this SAE was made without its weights."""
        path = index_file(self._layout, "features", sae.sae_id)
        if path is None or not path.is_file():
            return False
        try:
            norms = pq.ParquetFile(path).read(["decoder_norm"])["decoder_norm"]
        except (OSError, pa.ArrowException):  # damaged: `verify` says so
            return False
        return norms.null_count == len(norms) > 0

    def _keep_all(self, writer: IndexWriter, sae: SaeInfo, tables: tuple[str, ...]) -> bool:
        """Take over some tables; whether there was one."""
        kept = [table for table in tables if self._keep(writer, sae, table)]
        self._kept.setdefault(sae.sae_id, []).extend(kept)
        return bool(kept)

    def _keep(self, writer: IndexWriter, sae: SaeInfo, table: str) -> bool:
        relative = writer.path(table, sae.sae_id).relative_to(writer.directory).as_posix()
        entry = entries_of(self._layout.index).get(relative)
        if entry is None:
            return False
        writer.keep(self._layout.index, entry)
        return True


def _listed(names: list[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
