"""SQL: an editor over the store's tables and named queries, and the rows it gives."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Footer, Static, TextArea

from db.store import Session
from energylens.errors import EnergyLensError
from queries.adhoc import SqlResult, run_sql
from queries.catalog import named_queries
from tui.modals.cell import CellModal
from tui.modals.choose_query import ChooseQuery
from tui.screens.base import LensScreen
from tui.screens.columns import columns_of
from tui.sources import FrameRows
from tui.widgets.status_bar import StatusBar
from tui.widgets.view_bar import ViewBar
from tui.widgets.virtual_table import TableColumn, VirtualTable

LIMIT = 10_000
_FIRST = """SELECT category, count(*) AS texts, sum(n_tokens) AS tokens
FROM texts GROUP BY ALL ORDER BY ALL"""


class SqlScreen(LensScreen):
    """Write, run with F5, walk through the rows; esc stops a query, then leaves the editor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "f5,ctrl+enter,ctrl+j", "run", "Run", key_display="F5", priority=True, id="sql.run"
        ),
        Binding(
            "f2",
            "named",
            "Queries",
            key_display="F2",
            id="sql.named",
            tooltip="Insert a named query",
        ),
        Binding("escape", "back", "Back", priority=True, id="app.back"),
        Binding(
            "f6",
            "other_pane",
            "Rows",
            key_display="F6",
            priority=True,
            id="sql.pane",
            tooltip="To the rows and back",
        ),
    ]
    HELP = """# SQL

**F5** (or ctrl+enter, ctrl+j) runs the statement. **esc** stops a running query, then leaves the
editor, so that the view keys work. **F6** goes to the rows and back. **F2** lists the named
queries. Only reading is allowed, and only within the store. **space** shows a whole cell.

Tables: runs, saes, texts, contexts, tokens, codes, energies, features, feature_codes,
feature_texts, top_contexts, feature_logits, feature_neighbours.
"""

    def compose(self) -> ComposeResult:
        yield ViewBar("sql")
        with Vertical(id="sql"):
            yield TextArea.code_editor(_FIRST, language="sql", id="editor", show_line_numbers=False)
            yield Static("", id="sql-error", markup=False)
            yield VirtualTable((TableColumn("rows", "F5 runs the statement", 40),), id="rows")
        yield StatusBar(id="status")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self._is_running = False
        self.query_one("#sql-error").display = False
        self.query_one("#editor").focus()
        self.query_one(StatusBar).say("SQL", "reading only", f"at most {LIMIT:,} rows")

    def action_run(self) -> None:
        """Run what stands in the editor."""
        text = self.query_one("#editor", TextArea).text
        self._is_running = True
        self.query_one(StatusBar).say("running ...", "esc stops it")

        def question(session: Session) -> SqlResult:
            return run_sql(session.cursor(), text, LIMIT)

        self.workspace.tasks.ask(self, "sql", question, self._show, self._fail)

    def _show(self, result: SqlResult) -> None:
        self._is_running = False
        self.query_one("#sql-error").display = False
        table = self.query_one("#rows", VirtualTable)
        table.cursor_column = 0
        table.show(FrameRows(result.rows), columns_of(result.rows))
        n = len(result.rows)
        shown = f"{n:,} of >{n:,} rows" if result.is_cut else f"{n:,} rows"
        self.query_one(StatusBar).say(shown, f"{result.seconds * 1000:,.0f} ms", "F6 to the rows")

    def _fail(self, error: EnergyLensError) -> None:
        self._is_running = False
        message = self.query_one("#sql-error", Static)
        message.display = True
        message.update(str(error))
        self.query_one(StatusBar).say("the statement did not run")

    def action_back(self) -> None:
        """Stop the query; else leave the editor; else go back."""
        if self._is_running:
            self._is_running = False
            self.workspace.tasks.cancel(self, "sql")
            self.query_one(StatusBar).say("stopped")
        elif self.query_one("#editor").has_focus:
            self.query_one("#rows").focus()
        else:
            super().action_back()

    def action_other_pane(self) -> None:
        """From the editor to the rows and back."""
        editor = self.query_one("#editor")
        (self.query_one("#rows") if editor.has_focus else editor).focus()

    def action_named(self) -> None:
        """Choose a named query and put a call of it into the editor."""

        def chosen(name: str | None) -> None:
            if name is not None:
                self.query_one("#editor", TextArea).text = self._call_of(name)
                self.query_one("#editor").focus()

        self.app.push_screen(ChooseQuery(), chosen)

    def _call_of(self, name: str) -> str:
        query, selection = named_queries()[name], self.workspace.selection
        known = {"run": selection.run, "sae": selection.sae.sae_id} if selection else {}
        arguments = []
        for parameter in query.parameters:
            value = parameter.default or known.get(parameter.name)
            if parameter.name in known and parameter.default is None:
                quoted = str(value).replace("'", "''")
                value = f"'{quoted}'"
            arguments.append(f"{parameter.name} := {value or '?'}")
        return f"-- {query.doc}\nFROM {name}({', '.join(arguments)})"

    @on(VirtualTable.Peeked)
    def _cell(self, event: VirtualTable.Peeked) -> None:
        self.app.push_screen(CellModal(event.title, str(event.value)))

    @on(VirtualTable.Chosen)
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        event.table.action_peek()
