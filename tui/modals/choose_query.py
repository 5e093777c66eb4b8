"""Choose a named query."""

from energylens.queries.catalog import named_queries, usage
from energylens.tui.modals.choose import Choose


class ChooseQuery(Choose[str]):
    """Every named query, with what it says."""

    def __init__(self) -> None:
        entries = [(f"{usage(q)}\n  {q.doc}", q.name) for q in named_queries().values()]
        super().__init__("Which query?", entries)
