"""Take attribution graphs into a store: their files read, their features joined to a run's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from energylens.db.graph_files import GraphFolder, Rows, claim_graphs, stored_graphs
from energylens.db.graph_files import graph_rows as rows_of
from energylens.db.layout import StoreLayout
from energylens.db.version import check_format, create_store
from energylens.errors import UsageError
from energylens.ingest.exchange.attribution_graphs import Graph, graph_json, read_graph
from energylens.ingest.graph_joins import Joins, joins_given, made_of
from energylens.ingest.graph_rows import digest, graph_of, graph_rows, joined_text
from energylens.ingest.progress import Progress
from energylens.queries.names import pick, stored_runs
from energylens.queries.writing import whole_file

_MOST_LINKS = 2_000_000
"""Links that are put into the store at once; they stay where a later file is stopped."""
_NO_GRAPHS = {"graph-metadata.json"}
"""What circuit-tracer writes beside its graphs."""


@dataclass
class TakenGraphs:
    """What became of the files."""

    n_new: int = 0
    n_replaced: int = 0
    n_there: int = 0
    """Graphs that were there already, as they are."""
    n_nodes: int = 0
    n_links: int = 0
    n_joined: int = 0
    """Features of new graphs that a run knows."""
    n_features: int = 0
    refused: list[str] = field(default_factory=list)
    """A sentence for each file that was not taken."""
    remarks: list[str] = field(default_factory=list)
    """A sentence for each graph that has links of which it is not known where they belong."""

    @property
    def said(self) -> str:
        """It in words."""
        told = [
            f"{self.n_new:,} new",
            *([f"{self.n_replaced:,} replaced"] if self.n_replaced else []),
            f"{self.n_there:,} there already",
            *([f"{len(self.refused):,} files refused"] if self.refused else []),
        ]
        text = f"attribution graphs: {', '.join(told)}"
        if self.n_links:
            text += (
                f"; {self.n_nodes:,} nodes, {self.n_links:,} links; {self.n_joined:,} of "
                f"{self.n_features:,} features joined to a run"
            )
        return text


def import_graphs(
    store: Path,
    paths: Sequence[Path],
    run: str | None,
    saes: Sequence[str],
    is_replacing: bool,
    progress: Progress,
) -> TakenGraphs:
    """Take the graphs of files, and of folders with all below them, into a store, which is made
    where there is none. A file that cannot be taken keeps no other from being taken.

    Raises:
        UsageError: there are no files, or `run` or `saes` (LAYER=SAE) name nothing.
        StoreBusyError: another process takes graphs into this store.
        StoreError: the store cannot be written; what was put in before stays.
    """
    files = list(_files(paths))
    create_store(store)
    joins = joins_given(stored_runs(store), run, saes)
    with claim_graphs(StoreLayout(store)) as folder:
        taker = _Taker(folder, joins, is_replacing)
        for number, file in enumerate(files):
            progress.step("attribution graphs", number, len(files), "files")
            taker.take(file)
        taker.put()
    progress.step("attribution graphs", len(files), len(files), "files")
    return taker.done


def export_graph(store: Path, given: str, path: Path) -> str:
    """Write a graph of a store, named in full or by its beginning, as the JSON it came as; its id.

    Raises:
        UnknownNameError: there is no such graph.
        StoreError: the store cannot be read, or the file not be written.
    """
    check_format(store)
    layout = StoreLayout(store)
    graph_id = pick(given, sorted(stored_graphs(layout)), "there is no graph")
    rows = rows_of(layout, graph_id)
    assert rows is not None, "a graph that is listed is there"
    with whole_file(path) as partial:
        partial.write_bytes(graph_json(graph_of(rows)))
    return graph_id


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Files as they are given; of folders whatever may be a graph, also what will be refused."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(p for p in path.rglob("*") if p.suffix in (".json", ".pt") and p.is_file())
        graphs = [file for file in found if file.name not in _NO_GRAPHS]
        if not graphs:
            raise UsageError(f"the folder '{path}' has no file *.json; name one that has graphs")
        yield from graphs


class _Taker:
    """Reads graphs one by one and puts them into the store some at a time."""

    def __init__(self, folder: GraphFolder, joins: Joins, is_replacing: bool) -> None:
        self._folder, self._joins, self._is_replacing = folder, joins, is_replacing
        self._waiting: dict[str, Rows] = {}
        self._n_links = 0
        self.done = TakenGraphs()

    def take(self, file: Path) -> None:
        """One file more."""
        try:
            graph = read_graph(file)
        except UsageError as error:
            self.done.refused.append(str(error))
            return
        try:
            self._take(graph)
        except UsageError as error:
            self.done.refused.append(f"'{file}' {error}")

    def put(self) -> None:
        """Put what is waiting into the store."""
        if self._waiting:
            self._folder.put(list(self._waiting.values()))
        self._waiting, self._n_links = {}, 0

    def _take(self, graph: Graph) -> None:
        made, own = made_of(graph), digest(graph)
        joined = self._joins.of(graph, made)
        text = joined_text(joined)
        if graph.slug in self._waiting:
            self.put()
        there = self._folder.sums.get(graph.slug)
        if there and there.sha256 != own and not self._is_replacing:
            raise UsageError(
                f"is another graph of the slug '{graph.slug}', which the store has; take it with "
                "--replace in that one's place, or give it another slug in its metadata"
            )
        if there and there.sha256 == own and text in (there.joined, None):
            self.done.n_there += 1
            return
        self.done.n_new += there is None
        self.done.n_replaced += there is not None
        self._wait(graph, graph_rows(graph, made, joined, own))

    def _wait(self, graph: Graph, rows: Rows) -> None:
        (row,) = rows["graphs"].to_pylist()
        self.done.n_nodes += row["n_nodes"]
        self.done.n_links += row["n_links"]
        self.done.n_features += row["n_features"]
        self.done.n_joined += row["n_features"] - _n_unjoined(rows["graph_nodes"])
        if row["n_ambiguous"] or row["n_nowhere"]:
            self.done.remarks.append(
                f"'{graph.slug}': of {row['n_links']:,} links {row['n_ambiguous']:,} name an id "
                f"that several nodes have, and {row['n_nowhere']:,} one that none has; they are "
                "kept, marked, and in no path and no share"
            )
        self._waiting[graph.slug] = rows
        self._n_links += row["n_links"]
        if self._n_links >= _MOST_LINKS:
            self.put()


def _n_unjoined(nodes: pa.Table) -> int:
    return sum(
        kind == "feature" and sae is None
        for kind, sae in zip(
            nodes["node_type"].to_pylist(), nodes["sae_id"].to_pylist(), strict=True
        )
    )
