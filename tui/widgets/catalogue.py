"""The tables and named queries of a store, as a tree beside the editor."""

from dataclasses import dataclass

from rich.text import Text
from textual import on
from textual.message import Message
from textual.widgets import Tree

from energylens.queries.catalog import named_queries
from energylens.queries.completion import Vocabulary, arguments
from energylens.queries.display import visible


@dataclass(frozen=True)
class Name:
    """What a row of the tree stands for."""

    text: str
    """What is written into a statement."""
    doc: str


class Catalogue(Tree[Name]):
    """Enter writes a name into the editor; space, left and right open and close."""

    DEFAULT_CSS = """
    Catalogue { width: 34; height: 1fr; display: none; border-right: solid $panel; }
    """

    @dataclass
    class Chosen(Message):
        """A name is wanted."""

        name: Name

    @dataclass
    class Told(Message):
        """The cursor is on a name."""

        name: Name

    def __init__(self) -> None:
        super().__init__("store", id="catalogue")
        self.show_root = False
        self.auto_expand = False
        self.guide_depth = 2

    def fill(self, names: Vocabulary) -> None:
        """Show the names of a store."""
        self.clear()
        tables = self.root.add(Text("tables", "bold"), expand=True)
        for name, table in names.tables.items():
            node = tables.add(Text(visible(name)), Name(name, table.doc))
            for column in table.columns:
                label = Text(visible(column.name)).append(f" {visible(column.type)}", "dim")
                node.add_leaf(label, Name(column.name, column.doc))
        queries = self.root.add(Text("queries", "bold"), expand=True)
        for name, query in named_queries().items():
            written = f"{name}({arguments(query)})"
            node = queries.add(Text(name), Name(f"{name}(", query.doc))
            for parameter in query.parameters:
                default = "" if parameter.default is None else f" := {parameter.default}"
                label = Text(parameter.name).append(f" {parameter.type.lower()}{default}", "dim")
                node.add_leaf(label, Name(f"{parameter.name} := ", written))

    @on(Tree.NodeSelected)
    def _selected(self, event: Tree.NodeSelected[Name]) -> None:
        event.stop()
        if event.node.data is not None:
            self.post_message(self.Chosen(event.node.data))
        else:
            event.node.toggle()

    @on(Tree.NodeHighlighted)
    def _highlighted(self, event: Tree.NodeHighlighted[Name]) -> None:
        event.stop()
        if event.node.data is not None and self.has_focus:
            self.post_message(self.Told(event.node.data))
