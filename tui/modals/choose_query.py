"""Choose a named query."""

from energylens.queries.catalog import named_queries, usage
from energylens.tui.fuzzy import Entry
from energylens.tui.modals.choose import Choose


class ChooseQuery(Choose[str]):
    """A line for each named query; all that is said of the one under the cursor."""

    def __init__(self) -> None:
        entries = [
            Entry(q.name, q.name, q.doc, more=f"{usage(q)}\n{q.doc}")
            for q in named_queries().values()
        ]
        super().__init__("Which query?", entries)
