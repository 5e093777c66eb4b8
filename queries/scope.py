"""The parameters of named queries that name something of the store, looked up before a query runs.

Which parameter names what follows from its own name, so that every query of `sql/` is covered; a
test holds that each parameter of each query either stands here or is a plain value.
"""

from collections.abc import Callable, Sequence

from energylens.db.provenance import RunInfo, SaeInfo
from energylens.db.store import Reader
from energylens.db.table import GRADIENTS_OF_CODES
from energylens.errors import UnknownNameError
from energylens.queries.names import (
    check_number,
    find_run,
    find_sae,
    no_such,
    pick,
    whole_number,
)

UNITS = ("token", "text")
"""What co-activation is counted by."""

SCORES = (
    *("induction", "previous_token", "duplicate_token", "self_token", "first_token"),
    *("copying", "matching", "entropy", "distance", "output_norm"),
)
"""What heads are ranked by."""


class Scope:
    """The values of one call, and the runs and SAEs they have turned out to name."""

    def __init__(self, reader: Reader, required: set[str], values: dict[str, object]) -> None:
        self.reader, self.required = reader, required
        self.values = values
        self.runs: dict[str, RunInfo] = {}
        self.saes: dict[str, SaeInfo] = {}

    @property
    def run(self) -> RunInfo:
        """The run that is asked."""
        return self.runs["run"]

    def sae(self, *names: str) -> SaeInfo:
        """The SAE that the first of some parameters names; the run's only one where none does."""
        given = next((self.saes[name] for name in names if name in self.saes), None)
        return given or find_sae(self.run, None)


def looked_up(
    reader: Reader, parameters: dict[str, bool], values: dict[str, object]
) -> dict[str, object]:
    """The values of a call with every name in full, `run` and `sae` filled in where left out.

    `parameters` are those of the query in any order, true where they must be given. None keeps
    meaning what the query says it means.

    Raises:
        UnknownNameError: a value names nothing of the store.
    """
    scope = Scope(reader, {name for name, must in parameters.items() if must}, dict(values))
    for name, look_up in LOOKED_UP.items():
        if name in parameters:
            look_up(scope, name)
    return scope.values


def _run(scope: Scope, name: str) -> None:
    given = scope.values.get(name)
    if given is not None or name == "run":
        scope.runs[name] = find_run(scope.reader.infos, None if given is None else str(given))
        scope.values[name] = scope.runs[name].run_id


def _sae(scope: Scope, name: str) -> None:
    given = scope.values.get(name)
    run = scope.runs.get("other_run", scope.run) if name == "other_sae" else scope.run
    if given is None and not (name == "sae" and _needs_sae(scope)):
        return
    scope.saes[name] = find_sae(run, None if given is None else str(given))
    scope.values[name] = scope.saes[name].sae_id


def _needs_sae(scope: Scope) -> bool:
    return "sae" in scope.required or scope.values.get("feature") is not None


def _feature(scope: Scope, name: str) -> None:
    if scope.values.get(name) is None:
        return
    sae = scope.sae("partner_sae", "sae") if name == "partner" else scope.sae("sae", "in_sae")
    _number(scope, name, "feature", sae.d_sae, f"the SAE '{sae.sae_id}'")


def _text(scope: Scope, name: str) -> None:
    _number(scope, name, "text", scope.run.n_texts, f"the run '{scope.run.run_id}'")


def _context(scope: Scope, name: str) -> None:
    _number(scope, name, "context", scope.run.n_contexts, f"the run '{scope.run.run_id}'")


def _token(scope: Scope, name: str) -> None:
    run = scope.run
    _number(scope, name, "token", run.n_contexts * run.n_ctx, f"the run '{run.run_id}'")
    token = scope.values.get(name)
    if not isinstance(token, int):
        return
    context, pos = divmod(token, run.n_ctx)
    row = scope.reader.cursor().execute(
        "SELECT n_tokens FROM contexts WHERE run_id = $run AND context_id = $context",
        {"run": run.run_id, "context": context},
    )
    n_tokens = next(iter(row.fetchone() or ()), None)
    if n_tokens is not None and pos >= n_tokens:
        first = context * run.n_ctx
        raise UnknownNameError(
            f"there is no token {token} in the run '{run.run_id}'; the context {context} has the "
            f"tokens {first} to {first + n_tokens - 1}"
        )


def _layer(scope: Scope, name: str) -> None:
    given = scope.values.get(name)
    if given is None:
        return
    layer, top = whole_number("layer", given), scope.run.n_layers - 1
    if not -1 <= layer <= top:
        raise UnknownNameError(
            f"there is no layer {layer} in the run '{scope.run.run_id}', which has the layers -1 "
            f"(the embedding) to {top}"
        )
    scope.values[name] = layer


def _head(scope: Scope, name: str) -> None:
    row = scope.reader.cursor().execute(
        "SELECT max(head) FROM heads WHERE run_id = $run", {"run": scope.run.run_id}
    )
    (last,) = row.fetchone() or (None,)
    if last is not None:
        _number(scope, name, "head", last + 1, f"a block of the run '{scope.run.run_id}'")


def _score(scope: Scope, name: str) -> None:
    _word(scope, name, "heads have no score", SCORES)


def _category(scope: Scope, name: str) -> None:
    given = scope.values.get(name)
    if given is None:
        return
    rows = scope.reader.cursor().execute(
        "SELECT DISTINCT category FROM texts WHERE run_id = $run AND category IS NOT NULL",
        {"run": scope.run.run_id},
    )
    known = sorted(category for (category,) in rows.fetchall())
    if given not in known:
        said = f"the run '{scope.run.run_id}' has no category"
        raise UnknownNameError(no_such(said, str(given), known))


def _graph(scope: Scope, name: str) -> None:
    rows = scope.reader.cursor().execute("SELECT graph_id FROM graphs ORDER BY graph_id")
    known = [graph_id for (graph_id,) in rows.fetchall()]
    if (given := scope.values.get(name)) is None:
        return
    if not known:
        raise UnknownNameError(
            f"there is no graph '{given}': the store has no attribution graphs; take some in with: "
            "energylens import graph STORE FILE..."
        )
    scope.values[name] = pick(str(given), known, "there is no graph")
    if name == "other_graph":
        _check_comparable(scope)


def _check_comparable(scope: Scope) -> None:
    """Numbers of features mean the same in graphs of one model and its dictionaries."""
    rows = scope.reader.cursor().execute(
        "SELECT DISTINCT scan, source_set FROM graphs WHERE graph_id IN ($one, $other) "
        "ORDER BY ALL",
        {"one": scope.values.get("graph"), "other": scope.values["other_graph"]},
    )
    if len(of := rows.fetchall()) > 1:
        named = " and of ".join(f"{scan} with {sets or 'no name'}" for scan, sets in of)
        raise UnknownNameError(
            f"the graphs '{scope.values.get('graph')}' and '{scope.values['other_graph']}' are of "
            f"{named}: their features' numbers mean different things; compare graphs of one model "
            "and one set of dictionaries"
        )


def _node(scope: Scope, name: str) -> None:
    given, graph = scope.values.get(name), scope.values.get("graph")
    if given is None:
        return
    rows = scope.reader.cursor().execute(
        "SELECT DISTINCT node_id FROM graph_nodes WHERE graph_id = $graph", {"graph": graph}
    )
    known = sorted(node_id for (node_id,) in rows.fetchall())
    if given not in known:
        raise UnknownNameError(no_such(f"the graph '{graph}' has no node", str(given), known))


def _variant(scope: Scope, name: str) -> None:
    known = [column.name.removeprefix("g_") for column in GRADIENTS_OF_CODES]
    if scope.values.get(name) in known:
        return
    rows = scope.reader.cursor().execute("SELECT DISTINCT variant FROM efas ORDER BY ALL")
    stored = [variant for (variant,) in rows.fetchall() if variant not in known]
    _word(scope, name, "there is no gradient", known + stored)


def _unit(scope: Scope, name: str) -> None:
    _word(scope, name, "there is no unit", UNITS)


def _word(scope: Scope, name: str, said: str, known: Sequence[str]) -> None:
    given = scope.values.get(name)
    if given is not None and given not in known:
        raise UnknownNameError(no_such(said, str(given), known))


def _number(scope: Scope, name: str, what: str, n: int, where: str) -> None:
    given = scope.values.get(name)
    if given is not None:
        scope.values[name] = check_number(what, given, n, where)


LOOKED_UP: dict[str, Callable[[Scope, str], None]] = {
    "run": _run,
    "other_run": _run,
    "sae": _sae,
    "in_sae": _sae,
    "other_sae": _sae,
    "partner_sae": _sae,
    "feature": _feature,
    "partner": _feature,
    "in_text": _text,
    "in_context": _context,
    "at_token": _token,
    "at_layer": _layer,
    "from_layer": _layer,
    "at_head": _head,
    "by_score": _score,
    "in_category": _category,
    "graph": _graph,
    "other_graph": _graph,
    "at_node": _node,
    "from_node": _node,
    "to_node": _node,
    "of_variant": _variant,
    "by_unit": _unit,
}
"""What is looked up, runs before SAEs before what lies in them."""
