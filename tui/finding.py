"""What `:` and the palette find: views, keys, runs, SAEs and queries by their letters; features,
tokens, categories and texts by words."""

from collections.abc import Callable

from energylens.db.store import Reader, Session
from energylens.errors import QueryError
from energylens.queries.catalog import named_queries, usage
from energylens.queries.contexts import search_texts, search_tokens
from energylens.queries.display import counted, visible, visible_token
from energylens.queries.explanations import search_features
from energylens.queries.meanings import LEAST_SCORE
from energylens.queries.specialists import specialist_categories
from energylens.tui.fuzzy import Entry, Found, places_of
from energylens.tui.jump import ACTIONS, FILTERS, Jump, parse_jump
from energylens.tui.modals.find import Find
from energylens.tui.state import Selection, Workspace
from energylens.tui.widgets.view_bar import VIEWS

Goal = Entry[Jump]
_MOST = 12
"""Features, tokens and texts that are listed of each kind."""
_SURE = 4.5
"""Score of the features that words lead to in the SAE in view: what letters begin comes before them
only where half of its name is typed."""
_TO_QUOTE = frozenset(' :<>=~-"')


def goals(workspace: Workspace) -> list[Goal]:
    """What can be found without a look at the store."""
    views = [
        Entry(mode, Jump("view", mode), f"{title}, key {key}", "view")
        for key, mode, title, _ in VIEWS
    ]
    filters = [
        Entry(name, Jump("filter", text), text, "features") for name, text in FILTERS.items()
    ]
    keys = [Entry(name, Jump("action", action), "", "key") for name, action in ACTIONS.items()]
    runs = [
        Entry(info.run_id, Jump("run", info.run_id), f"{info.kind}, {info.model}", "run")
        for info in workspace.runs
    ]
    saes = [
        Entry(
            choice.sae.sae_id,
            Jump("sae", choice.sae.sae_id.lower(), selection=choice),
            f"{choice.sae.d_sae:,} features  {choice.run}",
            "SAE",
        )
        for choice in workspace.choices
    ]
    queries = [
        Entry(q.name, Jump("query", q.name), q.doc, "query", f"{usage(q)}\n{q.doc}")
        for q in named_queries().values()
    ]
    return [*views, *filters, *keys, *runs, *saes, *queries]


def at_once(workspace: Workspace, letters: str) -> list[Found[Jump]]:
    """What a line says by itself, and the features that its words lead to."""
    line, found = letters.strip(), []
    if not line:
        return []
    try:
        jump = parse_jump(line)
    except QueryError:
        pass
    else:
        known = (goal for goal in goals(workspace) if goal.value == jump)
        own = next(known, Entry(line, jump, kind=jump.kind))
        found.append(Found(own, 10.0, places_of(own.title, line.lower())[1]))
    if workspace.selection is not None:
        found.append(_concept(workspace.selection, line))
    return found


def look(workspace: Workspace) -> Callable[[Find[Jump], str, Callable], None]:
    """Asks the store what words lead to: first in the SAE in view, then everywhere."""

    def asked(asker: Find[Jump], letters: str, answer: Callable) -> None:
        words, selection = letters.strip(), workspace.selection
        workspace.tasks.cancel(asker, "find")
        if not words or selection is None:
            return

        def question(session: Session) -> list[Found[Jump]]:
            return by_words(session, workspace, selection, words)

        workspace.tasks.ask(asker, "find", question, answer, lambda _: None)

    return asked


def by_words(
    reader: Reader, workspace: Workspace, here: Selection, words: str
) -> list[Found[Jump]]:
    """Features, tokens, categories and texts of the run in view that words lead to."""
    run = here.run
    saes = {choice.sae.sae_id: choice for choice in workspace.choices if choice.run == run}
    rows = search_features(reader, run, words, None, 1 << 40, LEAST_SCORE)
    n_by_sae = {sae: len(own) for (sae,), own in rows.group_by("sae_id")}
    found = [
        _concept(choice, words, n_by_sae[sae], _SURE if choice == here else 2.8)
        for sae, choice in saes.items()
        if sae in n_by_sae
    ]
    if here.sae.sae_id not in n_by_sae:
        found.append(_concept(here, words, 0, 0.1))
    own = rows.filter(rows["sae_id"] == here.sae.sae_id).head(_MOST)
    for row in (*own.iter_rows(named=True), *rows.head(_MOST).iter_rows(named=True)):
        found.append(_feature(saes[row["sae_id"]], row))
    for category in specialist_categories(reader, run)["category"].unique().sort().to_list():
        if words.lower() in category.lower():
            jump = Jump("filter", f'category:"{category}"')
            found.append(Found(Entry(category, jump, "features", "category"), 2.9))
    for token, n, _ in search_tokens(reader, run, words, _MOST).iter_rows():
        jump = Jump("filter", quoted(token))
        found.append(Found(Entry(visible_token(token), jump, f"{n:,} times", "token"), 1.4))
    for row in search_texts(reader, run, words, _MOST).iter_rows(named=True):
        said = f"{row['category'] or ''}  …{visible(row['snippet'])}…"
        jump = Jump("text", number=row["text_id"])
        found.append(Found(Entry(f"text {row['text_id']}", jump, said, "text"), 1.2))
    return list({one.entry.value: one for one in reversed(found)}.values())[::-1]


def quoted(words: str) -> str:
    """Words as a filter that means them as they stand."""
    return f'"{words.replace(chr(34), "")}"' if _TO_QUOTE & set(words) else words


def _concept(
    selection: Selection, words: str, n: int | None = None, score: float = _SURE
) -> Found[Jump]:
    how_many = "features" if n is None else counted(n, "feature")
    jump = Jump("filter", quoted(words), selection=selection)
    entry = Entry(words, jump, f"{how_many} of {selection.sae.sae_id}", "concept")
    return Found(entry, score, tuple(range(len(words))))


def _feature(selection: Selection, row: dict) -> Found[Jump]:
    jump = Jump("feature", number=row["feature_id"], selection=selection)
    said = row["label"] or row["said"] or row["promoted"] or row["top_category"] or ""
    about = f"{said}  {selection.sae.sae_id}"
    return Found(Entry(f"{row['feature_id']}", jump, about, "feature"), 2.0 + row["score"] / 100)
