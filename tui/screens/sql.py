"""SQL: an editor over the store's tables and named queries, and the rows it gives."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static, TextArea

from energylens.db.store import Session
from energylens.errors import EnergyLensError
from energylens.queries.adhoc import SqlResult, ask
from energylens.queries.catalog import named_queries
from energylens.queries.completion import Vocabulary, vocabulary
from energylens.queries.display import visible, visible_lines
from energylens.tui.kinds.listing import ListingScreen
from energylens.tui.modals.ask_line import AskLine
from energylens.tui.modals.choose import Choose
from energylens.tui.modals.choose_query import ChooseQuery
from energylens.tui.places import WholeText, one_feature
from energylens.tui.state import FeaturePlace, Selection
from energylens.tui.statements import history, remember, save, saved
from energylens.tui.widgets.columns import columns_of
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.sql_editor import SqlEditor
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable

LIMIT = 10_000
MOST_CANDIDATES = 8
"""Candidates of a completion that are told."""
_FIRST = """SELECT category, count(*) AS texts, sum(n_tokens) AS tokens
FROM texts GROUP BY ALL ORDER BY ALL"""


class SqlScreen(ListingScreen):
    """Write, run with F5, walk through the rows; esc stops a query, then leaves the editor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "f5,ctrl+enter,ctrl+j", "run", "Run", key_display="F5", priority=True, id="sql.run"
        ),
        Binding("f2", "named", "Queries", key_display="F2", id="sql.named", tooltip="Named ones"),
        Binding(
            "f3", "past", "History", key_display="F3", id="sql.history", tooltip="Saved, and past"
        ),
        Binding("f4", "save", "Save", key_display="F4", id="sql.save", tooltip="Under a name"),
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

**F5** (or ctrl+enter, ctrl+j) runs the statement. **tab** completes tables, columns and queries as
far as they agree; the status line tells what is left. **F2** lists the named queries, **F3** what
was saved and what ran before (**ctrl+up** and **ctrl+down** walk through it), **F4** saves the
statement under a name. **esc** stops a running query, then leaves the editor, so that the view keys
work. **F6** goes to the rows and back: there **enter** opens the row's feature or text, **space**
shows the whole cell, **/** filters, **s** and **S** sort. Only reading is allowed, and only within
the store.

Tables: runs, saes, texts, contexts, tokens, codes, energies, routing, features, feature_codes,
feature_texts, top_contexts, specialists, efas, coactivation, notes and more; tab after FROM and a
letter. Saved statements lie in the configuration directory, a file each.
"""

    def compose(self) -> ComposeResult:
        yield ViewBar("sql")
        with Vertical(id="sql"):
            yield SqlEditor(_FIRST, id="editor")
            yield Static("", id="sql-error", markup=False)
            yield VirtualTable((TableColumn("rows", "F5 runs the statement", 40),), id="rows")
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self._is_running = False
        self._walked = 0
        """Steps into the history; 0 is what was being written."""
        self._draft = ""
        self.query_one("#sql-error").display = False
        self.editor.focus()
        self.say("SQL", "reading only", f"at most {LIMIT:,} rows")
        self.workspace.tasks.ask(self, "names", vocabulary, self._know)

    @property
    def editor(self) -> SqlEditor:
        return self.query_one("#editor", SqlEditor)

    def _know(self, names: Vocabulary) -> None:
        self.editor.vocabulary = names

    @on(TextArea.Changed, "#editor")
    def _typed(self) -> None:
        self.editor.tell()

    @on(SqlEditor.Candidates)
    def _tell(self, event: SqlEditor.Candidates) -> None:
        if event.names:
            rest = len(event.names) - MOST_CANDIDATES
            more = f"and {rest} more" if rest > 0 else ""
            self.say("tab", *event.names[:MOST_CANDIDATES], more)
        elif not self._is_running:
            self.say("SQL", "F5 runs")

    def begin_with(self, statement: str) -> None:
        """Put a statement into the editor and run it."""
        self.editor.text = statement
        self.action_run()

    def action_run(self) -> None:
        """Run what stands in the editor, once it has taken in all keys pressed before."""
        self.editor.call_later(self._run)

    def _run(self) -> None:
        text = self.editor.text
        self._is_running = True
        self._walked = 0
        remember(text)
        self.say("running ...", "esc stops it")

        def question(session: Session) -> SqlResult:
            return ask(session, text, LIMIT, self.workspace.store.limits)

        self.workspace.tasks.ask(self, "sql", question, self._show, self._fail)

    def _show(self, result: SqlResult) -> None:
        self._is_running = False
        self.query_one("#sql-error").display = False
        table = self.query_one("#rows", VirtualTable)
        table.cursor_column = 0
        self.show_rows(table, result.rows, columns_of(result.rows))
        n = len(result.rows)
        shown = f"{n:,} of >{n:,} rows" if result.is_cut else f"{n:,} rows"
        self.say(shown, f"{result.seconds * 1000:,.0f} ms", "F6 to the rows")

    def _fail(self, error: EnergyLensError) -> None:
        self._is_running = False
        message = self.query_one("#sql-error", Static)
        message.display = True
        message.update(visible_lines(str(error)))
        self.say("the statement did not run")

    def step_back(self) -> bool:
        """Stop the query; else leave the editor."""
        if self._is_running:
            self._is_running = False
            self.workspace.tasks.cancel(self, "sql")
            self.say("stopped")
        elif self.editor.has_focus:
            self.query_one("#rows").focus()
        else:
            return False
        return True

    def action_other_pane(self) -> None:
        """From the editor to the rows and back."""
        (self.query_one("#rows") if self.editor.has_focus else self.editor).focus()

    def action_named(self) -> None:
        """Choose a named query and put a call of it into the editor."""

        def chosen(name: str | None) -> None:
            if name is not None:
                self._write(self._call_of(name))

        self.app.push_screen(ChooseQuery(), chosen)

    def action_past(self) -> None:
        """Choose a statement that was saved, or that ran before."""
        entries = [(f"{name}: {_line(text)}", text) for name, text in saved().items()]
        entries += [(_line(text), text) for text in history()]
        if not entries:
            self.notify("nothing ran yet and nothing is saved", markup=False)
            return

        def chosen(text: str | None) -> None:
            if text is not None:
                self._write(text)

        self.app.push_screen(Choose("Saved statements, then those that ran", entries), chosen)

    def action_save(self) -> None:
        """Save the statement under a name."""
        text = self.editor.text

        def named(name: str | None) -> None:
            if name is None:
                return
            try:
                self.notify(f"saved as {save(name.strip(), text)}", markup=False)
            except EnergyLensError as error:
                self.notify(str(error), severity="error", markup=False)

        self.app.push_screen(AskLine("Save the statement as", hint="F3 lists it"), named)

    @on(SqlEditor.Walked)
    def _walk(self, event: SqlEditor.Walked) -> None:
        past = history()
        if self._walked == 0:
            self._draft = self.editor.text
        self._walked = max(0, min(self._walked + event.by, len(past)))
        self._write(past[self._walked - 1] if self._walked else self._draft)

    def _write(self, text: str) -> None:
        self.editor.text = text
        self.editor.move_cursor(self.editor.document.end)
        self.editor.focus()

    def _call_of(self, name: str) -> str:
        query, place = named_queries()[name], self.here
        known = {"run": place.run} if place else {}
        if place and place.sae:
            known["sae"] = place.sae.sae_id
        arguments = []
        for parameter in query.parameters:
            value = parameter.default or known.get(parameter.name)
            if parameter.name in known and parameter.default is None:
                quoted = str(value).replace("'", "''")
                value = f"'{quoted}'"
            arguments.append(f"{parameter.name} := {value or '?'}")
        return f"-- {query.doc}\nFROM {name}({', '.join(arguments)})"

    @on(VirtualTable.Chosen)
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        row = self.row_of(event)
        if row is None:
            return
        selection = self._sae_of(row)
        if selection is not None and isinstance(row.get("feature_id"), int):
            feature_id = row["feature_id"]
            if 0 <= feature_id < selection.sae.d_sae:
                self.open_place(one_feature(FeaturePlace(selection, feature_id)))
                return
        run = row.get("run_id", self.here.run if self.here else None)
        is_here = run in [info.run_id for info in self.workspace.store.infos]
        if is_here and isinstance(row.get("text_id"), int):
            self.open_place(WholeText(str(run), row["text_id"]))
        else:
            event.table.action_peek()

    def _sae_of(self, row: dict) -> Selection | None:
        """The SAE a row names; the one in view where it names none."""
        here = self.here
        if here is None:
            return None
        run, sae_id = row.get("run_id", here.run), row.get("sae_id", here.sae and here.sae.sae_id)
        return self.workspace.sae_of(str(run), str(sae_id))


def _line(text: str) -> str:
    """A statement on one line."""
    return visible(" ".join(text.split()))
