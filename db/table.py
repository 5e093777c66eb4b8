"""What a table and a column are, and the columns that many tables share."""

from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

Place = Literal["run", "shard", "index", "beside", "store"]
"""Where rows of a table lie: in run.json, in every shard (truth), in the index (derived), in a file
beside them (what people know of the run), or in a folder of the store, of no run."""


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, what it means, and its Parquet encoding."""

    name: str
    type: pa.DataType
    doc: str
    encoding: str | None = None
    """A Parquet encoding; None lets the writer use a dictionary."""


@dataclass(frozen=True)
class Table:
    """One table: what a row is, which columns identify it, and where its files lie."""

    name: str
    doc: str
    place: Place
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    optional: bool = field(default=False)
    """True where a shard may lack the table because nobody asked for it."""

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema of the table's files."""
        return pa.schema([pa.field(c.name, c.type) for c in self.columns])


RUN = Column("run_id", pa.string(), "the run these rows belong to")
SAE = Column("sae_id", pa.string(), "the SAE, as the table saes names it")
HOOK = Column("hook_name", pa.string(), "place in the model, as TransformerLens spells it")
TOKEN_INDEX = Column(
    "token_index",
    pa.int64(),
    "the token's number in the run: context_id * n_ctx + pos",
    "DELTA_BINARY_PACKED",
)
FEATURE = Column("feature_id", pa.int32(), "the feature's number in its SAE")
ACTIVATION = Column(
    "activation", pa.float32(), "the feature's activation; never 0", "BYTE_STREAM_SPLIT"
)
TEXT_ID = Column("text_id", pa.int64(), "the text's number in the corpus", "DELTA_BINARY_PACKED")


def constants(n: int, **values: str) -> dict[str, pa.DictionaryArray]:
    """Columns that hold one value in all of n rows, in next to no memory."""
    zeros = pa.repeat(pa.scalar(0, pa.int8()), n)
    return {
        name: pa.DictionaryArray.from_arrays(zeros, pa.array([value]))
        for name, value in values.items()
    }


def float_column(name: str, doc: str) -> Column:
    """A float32 column whose bytes are split, which compresses well."""
    return Column(name, pa.float32(), doc, "BYTE_STREAM_SPLIT")


GRADIENTS_OF_CODES = tuple(
    float_column(
        f"g_{variant}",
        f"g = -dE/dz, nats by which one more unit of the activation lowers {what}; NULL where "
        "there is no next token or it was not computed",
    )
    for variant, what in (
        ("lens", "the lens energy of the token, read at the SAE's place"),
        ("own", "the model's energy of the token, through its own stream"),
        ("total", "the model's energies of this and all later tokens of the context"),
        ("calibration", "the lens energy of a next token drawn from the lens: a null"),
    )
)
