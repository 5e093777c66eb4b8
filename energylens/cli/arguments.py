"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="The store's directory.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")]
ColumnsOption = Annotated[
    str | None,
    typer.Option("--columns", metavar="A,B", help="Only these columns, in this order."),
]
PagerOption = Annotated[
    bool, typer.Option("--pager", help="All columns in $PAGER, or less, in a terminal.")
]
