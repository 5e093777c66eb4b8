"""What the index reads off weights: computed where the weights are, else kept from before, and what
is left out is said."""

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from energylens.db.index_files import IndexWriter, index_state
from energylens.db.layout import RunLayout, file_name
from energylens.db.manifest import FileEntry, read_manifest
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.errors import UsageError, why_no_models
from energylens.ingest.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from energylens.ingest.index.weights import Decoder, WeightReader

WEIGHT_TABLES = ("feature_logits", "feature_neighbours")
"""Read off weights alone: they outlive a rebuild on a machine without them."""
GRADIENT_TABLES = ("efas", "efas_categories")
"""Made from codes and weights: they outlive a rebuild only over the same shards."""


class FromWeights:
    """The weights of one run's SAEs, as far as they are to be had here."""

    def __init__(self, run: RunInfo, layout: RunLayout) -> None:
        self._run, self._layout = run, layout
        self._reader: WeightReader | None = None
        self._why_none: str | None = None
        self._left_out: dict[tuple[bool, str], list[str]] = {}
        """SAEs by whether their tables were kept, and why they could not be made."""

    def can_add(self) -> bool:
        """Whether weights are here that were not when the index was made."""
        return any(self._has(sae) for sae in self._run.saes if self._lacks(sae))

    def write(self, writer: IndexWriter, sae: SaeInfo) -> "Decoder | None":
        """Write WEIGHT_TABLES of one SAE; its decoder, None where the weights are not here."""
        try:
            return self._open().write(writer, sae)
        except UsageError as error:
            kept = [self._keep(writer, sae, table) for table in WEIGHT_TABLES]
            self._leave_out(sae, any(kept), str(error))
            return None

    def keep_efas(self, writer: IndexWriter, sae: SaeInfo) -> bool:
        """Take over GRADIENT_TABLES from an index of the same shards; whether there was one."""
        if index_state(self._layout) != "fresh":
            return False
        kept = [self._keep(writer, sae, table) for table in GRADIENT_TABLES]
        return any(kept)

    def directions(self, sae: SaeInfo) -> "np.ndarray | None":
        """[d_sae, d_out]: what each feature writes; None where the weights are not here."""
        try:
            return self._open().directions(sae)
        except UsageError:
            return None

    def tell(self, progress: Progress) -> None:
        """Say in a line what was left out, and why."""
        for (is_kept, why), saes in self._left_out.items():
            which = "every SAE" if len(saes) == len(self._run.saes) else ", ".join(saes)
            done = "are kept as they were" if is_kept else "are left out"
            progress.say(
                "logit weights, neighbours, decoder norms and EFAS by gradients of the model "
                f"{done} for {which} of {self._run.run_id}: {why}"
            )

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
            self._leave_out(sae, False, str(error))
            return False
        return True

    def _lacks(self, sae: SaeInfo) -> bool:
        """Whether the index of this SAE was made without its weights."""
        path = self._layout.index / "features" / f"{file_name(sae.sae_id)}.parquet"
        if not path.is_file():
            return False
        try:
            norms = pq.ParquetFile(path).read(["decoder_norm"])["decoder_norm"]
        except (OSError, pa.ArrowException):  # damaged: `verify` says so
            return False
        return norms.null_count == len(norms) > 0

    def _leave_out(self, sae: SaeInfo, is_kept: bool, why: str) -> None:
        for saes in self._left_out.values():
            if sae.sae_id in saes:
                saes.remove(sae.sae_id)
        self._left_out = {key: saes for key, saes in self._left_out.items() if saes}
        self._left_out.setdefault((is_kept, why), []).append(sae.sae_id)

    def _keep(self, writer: IndexWriter, sae: SaeInfo, table: str) -> bool:
        relative = writer.path(table, sae.sae_id).relative_to(writer.directory).as_posix()
        entry = self._entries().get(relative)
        if entry is None:
            return False
        writer.keep(self._layout.index, entry)
        return True

    def _entries(self) -> dict[str, FileEntry]:
        if not (self._layout.index / "manifest.json").exists():
            return {}
        return {entry.path: entry for entry in read_manifest(self._layout.index).files}
