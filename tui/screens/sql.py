"""SQL: an editor over the store's tables and named queries, and the rows it gives."""

from dataclasses import replace
from typing import ClassVar

import polars as pl
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static, TextArea

from energylens.db.store import Session
from energylens.errors import EnergyLensError
from energylens.queries.adhoc import SqlResult, ask
from energylens.queries.catalog import named_queries
from energylens.queries.completion import Vocabulary, vocabulary
from energylens.queries.display import visible, visible_lines
from energylens.queries.editing import Span, call_of, formatted, told_at
from energylens.queries.frames import FeatureColumns
from energylens.queries.meanings import features_in, told_rows
from energylens.tui.address import Told
from energylens.tui.kinds.listing import TableState
from energylens.tui.kinds.preview import Look, Preview, PreviewScreen, look_of
from energylens.tui.modals.ask_line import AskLine
from energylens.tui.modals.chart import ChartModal
from energylens.tui.modals.choose import Choose
from energylens.tui.modals.choose_query import ChooseQuery
from energylens.tui.places import Place, place_of_row
from energylens.tui.sql_tabs import SqlTab, keep_tabs, read_tabs
from energylens.tui.statements import history, kept_entries, remember, save
from energylens.tui.widgets.catalogue import Catalogue
from energylens.tui.widgets.columns import columns_of
from energylens.tui.widgets.completions import Completions
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.sql_editor import SqlEditor
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable

LIMIT = 10_000
_NO_ROWS = (TableColumn("rows", "F5 runs the statement", 40),)


class SqlScreen(PreviewScreen):
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
        Binding("f7", "names", "Names", key_display="F7", priority=True, id="sql.names"),
        Binding("f8", "format", "Format", key_display="F8", priority=True, id="sql.format"),
        Binding("f9", "new_tab", "New", key_display="F9", priority=True, id="sql.new"),
        Binding("f12", "close_tab", "Close", show=False, priority=True, id="sql.close"),
        Binding(
            "alt+right,ctrl+pagedown",
            "turn_tab(1)",
            "Next",
            show=False,
            priority=True,
            id="sql.next",
        ),
        Binding(
            "alt+left,ctrl+pageup",
            "turn_tab(-1)",
            "Previous",
            show=False,
            priority=True,
            id="sql.previous",
        ),
        Binding("c", "chart", "Chart", show=False, id="sql.chart", tooltip="Columns drawn"),
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

**F5** (or ctrl+enter, ctrl+j) runs what is selected, else the statement the cursor is in; an error
puts the cursor where it lies. Candidates open as one types: **up** and **down** choose, **tab**
writes, **esc** closes. **F7** opens the tables, columns and queries as a tree: **enter** writes a
name. **F8** formats, **ctrl+l** empties, **ctrl+z** undoes.

**F2** lists the named queries and offers values for the one chosen, **F3** what was saved and what
ran before (**ctrl+up** and **ctrl+down** walk through it), **F4** saves the statement under a name.
**F9** opens a new tab, **F12** closes it, **alt+right** and **alt+left** (or ctrl+page down and up)
go through them; the next start finds them again.

**esc** stops a running query, then leaves the editor, so that the view keys work. **F6** goes to
the rows and back: there **enter** opens the row's feature or text, **space** shows the whole cell,
**/** filters, **s** and **S** sort, **F** counts, **c** draws the column. Only reading is allowed,
and only within the store.
"""

    def compose(self) -> ComposeResult:
        candidates = Completions()
        yield ViewBar("sql")
        with Horizontal(id="sql"):
            yield Catalogue()
            with Vertical():
                yield Static("", id="sql-tabs", markup=False)
                yield SqlEditor("", "editor", candidates)
                yield Static("", id="sql-error", markup=False)
                with Horizontal(id="sql-rows", classes="beside"):
                    yield VirtualTable(_NO_ROWS, id="rows")
                    yield Preview()
        yield StatusBar(id="status")
        yield KeyBar()
        yield candidates

    def on_mount(self) -> None:
        self._is_running = False
        self._walked, self._draft = 0, ""
        """Steps into the history, and what was being written before them."""
        self._asked = ("", Span(0, 0))
        """The text of the editor when a statement began to run, and where in it that is."""
        self._tabs = read_tabs()
        self._results: dict[SqlTab, TableState] = {}
        """Rows of tabs that are not in view."""
        self.query_one("#sql-error").display = False
        self.editor.focus()
        self.workspace.tasks.ask(self, "names", vocabulary, self._know)
        self._show_tab()

    @on(TextArea.Changed, "#editor")
    def _changed(self) -> None:
        self._tabs = self._tabs.put(self._tab)

    def on_unmount(self) -> None:
        keep_tabs(self._tabs)

    @property
    def editor(self) -> SqlEditor:
        return self.query_one("#editor", SqlEditor)

    @property
    def rows(self) -> VirtualTable:
        return self.query_one("#rows", VirtualTable)

    @property
    def _tab(self) -> SqlTab:
        """The open tab as it is now."""
        return SqlTab(self.editor.text, self._tabs.open.ran)

    def _know(self, names: Vocabulary) -> None:
        self.editor.vocabulary = names
        self.query_one(Catalogue).fill(names)

    def begin_with(self, statement: str) -> None:
        """Open a tab with a statement and run it."""
        self._leave()
        self._tabs = self._tabs.added(SqlTab(statement))
        self._show_tab()
        self.action_run()

    def address(self) -> Told:
        return replace(super().address(), statement=self._tab.ran)

    def take(self, told: Told) -> None:
        if told.statement is not None:
            self._stop()
            self.forget_rows()
            self.begin_with(told.statement)
        super().take(told)

    def _leave(self) -> None:
        """Keep what stands in the tab in view and its rows."""
        self._tabs = self._tabs.put(self._tab)
        if self._tab.ran is not None and self.n_all("rows"):
            self._results[self._tab] = self.state_of(self.rows)

    def _show_tab(self) -> None:
        tab = self._tabs.open
        self.editor.write(tab.text)
        self.query_one("#sql-error").display = False
        self._show_titles()
        if (state := self._results.get(tab)) is not None:
            self.restore(self.rows, state)
        elif tab.ran is not None:
            self._ask(tab.ran)
        else:
            self.show_rows(self.rows, pl.DataFrame(), _NO_ROWS)
            self.say("SQL", "reading only", f"at most {LIMIT:,} rows")

    def _show_titles(self) -> None:
        here = self._tabs.current
        titles = [
            f"[{n + 1}] {visible(tab.title)}" if n == here else f" {n + 1}  {visible(tab.title)}"
            for n, tab in enumerate(self._tabs.tabs)
        ]
        bar = self.query_one("#sql-tabs", Static)
        bar.display = len(titles) > 1
        bar.update("  ".join(titles))

    def action_new_tab(self) -> None:
        """Open an empty tab."""
        self._leave()
        self._tabs = self._tabs.added(SqlTab())
        self._show_tab()
        self.editor.focus()

    def action_close_tab(self) -> None:
        """Close the tab in view; what it held is in the history if it ran."""
        self._stop()
        self._tabs = self._tabs.closed()
        self._show_tab()

    def action_turn_tab(self, by: int) -> None:
        """Go to another tab."""
        self._leave()
        self._tabs = self._tabs.turned(by)
        self._show_tab()

    def action_names(self) -> None:
        """Open the tree of names and go to it; again closes it."""
        tree = self.query_one(Catalogue)
        tree.display = not tree.display
        (tree if tree.display else self.editor).focus()

    @on(Catalogue.Chosen)
    def _write_name(self, event: Catalogue.Chosen) -> None:
        self.editor.insert(event.name.text)

    @on(Catalogue.Told)
    def _tell_name(self, event: Catalogue.Told) -> None:
        self.say(visible(event.name.text), visible(event.name.doc))

    def action_format(self) -> None:
        """Write the statements as sqlfmt does."""
        try:
            self.editor.write(formatted(self.editor.text))
        except EnergyLensError as error:
            self.notify(str(error), severity="warning", markup=False)

    def action_chart(self) -> None:
        """Draw the column under the cursor of the rows."""
        rows = self.frame("rows")
        if not rows.is_empty():
            self.app.push_screen(ChartModal(rows, self.rows.column.name))

    def begin_query(self, name: str) -> None:
        """Put a call of a named query into the editor, its first open argument selected."""
        place = self.here
        known = {"run": place.run} if place else {}
        if place and place.sae:
            known["sae"] = place.sae.sae_id
        text, first = call_of(named_queries()[name], known)
        self.editor.write(text, first)
        self.editor.focus()

    def action_run(self) -> None:
        """Run what stands in the editor, once it has taken in all keys pressed before."""
        self.editor.call_later(self._run)

    def _run(self) -> None:
        whole, span = self.editor.text, self.editor.statement
        text = whole[span.start : span.end]
        if not text.strip():
            self.say("there is no statement at the cursor")
            return
        self._walked = 0
        self._asked = whole, span
        self._tabs = self._tabs.put(SqlTab(whole, text))
        self._show_titles()
        remember(text)
        self._ask(text)

    def _ask(self, text: str) -> None:
        self._is_running = True
        self.say("running ...", "esc stops it")

        def question(session: Session) -> SqlResult:
            found = ask(session, text, LIMIT, self.workspace.store.limits)
            return replace(found, rows=told_rows(session, found.rows, text, run))

        run = self.here.run if self.here else None
        self.workspace.tasks.ask(self, "sql", question, self._show, self._fail)

    def _show(self, result: SqlResult) -> None:
        self._is_running = False
        self.query_one("#sql-error").display = False
        self.rows.cursor_column = 0
        self.show_rows(self.rows, result.rows, columns_of(result.rows))
        self.query_one(Preview).set_class(self.look(self.rows) is None, "-lacking")
        n = f"{len(result.rows):,}"
        shown = f"{n} of >{n} rows" if result.is_cut else f"{n} rows"
        self.say(shown, f"{result.seconds * 1000:,.0f} ms", "F6 to the rows")

    def features_of(self, table: VirtualTable) -> FeatureColumns | None:
        run = self.here.run if self.here else None
        ran = self._tabs.open.ran or ""
        return features_in(self.workspace.store, self.frame("rows"), ran, run)

    def _fail(self, error: EnergyLensError) -> None:
        self._is_running = False
        message = self.query_one("#sql-error", Static)
        message.display = True
        told, place = told_at(str(error), *self._asked)
        if place is not None and self.editor.text == self._asked[0]:
            self.editor.move_cursor(place)
        message.update(visible_lines(told))
        self.say("the statement did not run")

    def _stop(self) -> None:
        self._is_running = False
        self.workspace.tasks.cancel(self, "sql")

    def step_back(self) -> bool:
        """Close the candidates, stop the query, close the tree, leave the editor."""
        if self.editor.close_candidates():
            return True
        if self._is_running:
            self._stop()
            self.say("stopped")
        elif self.query_one(Catalogue).has_focus:
            self.action_names()
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
                self.begin_query(name)

        self.app.push_screen(ChooseQuery(), chosen)

    def action_past(self) -> None:
        """Choose a statement that was saved, or that ran before."""
        entries = kept_entries()
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
        self._draft = self._draft if self._walked else self.editor.text
        self._walked = max(0, min(self._walked + event.by, len(past)))
        self._write(past[self._walked - 1] if self._walked else self._draft)

    def _write(self, text: str) -> None:
        self.editor.write(text)
        self.editor.focus()

    def look(self, table: VirtualTable) -> Look | None:
        return look_of(self._place_at(self.rows.cursor_row))

    def _place_at(self, row: int) -> Place | None:
        rows = self.frame("rows")
        return place_of_row(rows.row(row, named=True), self.workspace) if row < len(rows) else None

    @on(VirtualTable.Chosen)
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        place = self._place_at(event.row)
        if place is not None:
            self.open_place(place)
        elif event.row < len(self.frame("rows")):
            event.table.action_peek()
