"""What a stranger's bytes are fed to, in this process: records, lines, filters, SQL, files.

A target takes bytes and returns, whatever they are; what it raises is a defect. The short form
feeds each some thousand changed seeds (test_targets.py), the long form as many as there is time
for, led by the code they reach (fuzz.py).
"""

import io
import json
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from textual.theme import BUILTIN_THEMES

from energylens.db.beside import read_rows
from energylens.db.explanations import EXPLANATIONS
from energylens.db.layout import StoreLayout
from energylens.db.limits import Limits
from energylens.db.manifest import FileEntry, Manifest, read_manifest
from energylens.db.notes import NOTES
from energylens.db.provenance import fill_tables, read_run
from energylens.db.records import sealed
from energylens.db.schema import RUNS, SAES
from energylens.db.store import Store, confine
from energylens.db.sums import wrong_with
from energylens.db.version import check_format, create_store
from energylens.db.views import STORED, schema_statements
from energylens.errors import EnergyLensError
from energylens.ingest.explanations import explain
from energylens.ingest.on_request.worker import Worker
from energylens.ingest.texts import iter_texts
from energylens.lens.sae_config import check_header, read_config, read_declared
from energylens.protocol import (
    AttributionRequest,
    CausalityRequest,
    EditRequest,
    InterventionRequest,
    ProgressReport,
    PromptRequest,
    Reading,
    SteeringRequest,
)
from energylens.queries.adhoc import ask
from energylens.queries.catalog import call, named_queries, open_catalog
from energylens.queries.display import visible, visible_lines
from energylens.queries.ranked import FeatureList, Sort
from energylens.rpc import INTERNAL
from energylens.tui.answers import Refusal, Report, Result, read_line
from energylens.tui.keymap import is_key
from energylens.tui.settings import read_settings
from energylens.wire import decode, encode

Feed = Callable[[bytes], object]
REQUESTS = (
    AttributionRequest, CausalityRequest, EditRequest, InterventionRequest, ProgressReport,
    PromptRequest, Reading, SteeringRequest,
)  # fmt: skip
LAST = 5
"""Requests that the reader of a worker's answers has made."""


@dataclass(frozen=True)
class Target:
    """Something that takes bytes from strangers."""

    feed: Feed
    seeds: tuple[bytes, ...]
    """What it is made for, to begin changes from."""
    cost: int = 1
    """How many cases of the cheapest targets take as long as one of it, about."""


@contextmanager
def only_sentences() -> Iterator[None]:
    """What is raised on purpose is an answer too, and says something."""
    try:
        yield
    except EnergyLensError as error:
        said = str(error)
        assert said.strip()
        visible_lines(said).encode()


class _Patient(io.BytesIO):
    """Lines for a worker, which would give up what it does at their end: the end comes after it."""

    worker: Worker | None = None

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        while not line and self.worker is not None and self.worker._jobs:
            time.sleep(0)
        return line


def targets(store: Path, folder: Path) -> dict[str, Target]:
    """Every target by its name; `store` has a run with an SAE, whose index is made, and `folder` is
    where files may be written."""
    return _records(store, folder) | _lines(folder) | _asked(store) | _files(store, folder)


def _fed_file(path: Path, use: Callable[[], object]) -> Feed:
    path.parent.mkdir(parents=True, exist_ok=True)

    def feed(content: bytes) -> None:
        path.write_bytes(content)
        with only_sentences():
            use()

    return feed


def _records(store: Path, folder: Path) -> dict[str, Target]:
    root = folder / "records.lens"
    run = StoreLayout(root).run("r")
    made = StoreLayout(store).runs()[0]
    info = asdict(read_run(made.run_json)) | {"run_id": "r"}
    con = duckdb.connect()
    for statement in schema_statements():
        con.execute(statement)
    shard, catalog = run.shard(0), root / "catalog.duckdb"

    def use_run() -> None:
        found = read_run(run.run_json)
        assert found.run_id == "r"
        fill_tables(con, [found], STORED)
        for table in (RUNS, SAES):
            con.execute(f"FROM {STORED}.{table.name}").fetchall()

    def use_manifest() -> None:
        for entry in read_manifest(shard).files:
            assert (shard / entry.path).resolve().is_relative_to(shard.resolve())

    entry = FileEntry("tokens", "tokens.parquet", 3, 4, "0" * 64)
    manifest = Manifest((entry,), ("000000:1",))
    return {
        "run.json": Target(_fed_file(run.run_json, use_run), (json.dumps(info).encode(),), 8),
        "manifest.json": Target(
            _fed_file(shard / "manifest.json", use_manifest),
            (json.dumps(asdict(manifest)).encode(), sealed(manifest).encode()),
        ),
        "sums.json": Target(
            _fed_file(root / "sums.json", lambda: wrong_with(catalog)),
            (b'{"files": {"catalog.duckdb": ["00", ""]}}',),
        ),
        "store.json": Target(
            _fed_file(root / "store.json", lambda: check_format(root)), (b'{"format": 2}',)
        ),
    }


def _lines(folder: Path) -> dict[str, Target]:
    """What goes between the screens and a worker."""

    def answer(line: bytes) -> None:
        found = read_line(line, LAST)
        assert found is None or isinstance(found, (Result, Refusal, Report))
        if isinstance(found, Result | Report):
            assert 0 < found.number <= LAST
        if isinstance(found, Report):
            json.dumps(asdict(found.progress))

    def request(lines: bytes) -> None:
        asked, given = _Patient(lines), io.BytesIO()
        asked.worker = worker = Worker(asked, given)  # pyright: ignore[reportArgumentType]
        worker.serve()
        for line in given.getvalue().splitlines():
            told = json.loads(line.decode())
            assert told["jsonrpc"] == "2.0", told
            assert told.keys() & {"result", "error", "method"}, told
            assert (told.get("error") or {}).get("code") != INTERNAL, told

    def record(content: bytes) -> None:
        with suppress(ValueError, RecursionError):
            raw = json.loads(content)
            for kind in REQUESTS:
                with only_sentences(), suppress(UnicodeEncodeError):
                    once = encode(decode(kind, raw))
                    assert encode(decode(kind, json.loads(once))) == once

    edit = '{"sae_id": "s", "feature_ids": [1, 2], "kind": "hold", "value": 1.5, "positions": [0]}'
    asked = (
        f'{{"text": "a", "edit": {edit}, "seed": 3, "keep": false}}',
        f'{{"prompt": "a", "edit": {edit}, "strengths": [1, 2.5], "n_tokens": 3}}',
        edit,
        '{"text": "a", "sae_id": "s", "position": -1, "token": " b", "top": 3}',
        '{"phase": "x", "done": 1, "total": 2, "unit": "tokens", "message": "m"}',
        '{"text": "a", "other": null, "top": 5, "keep": true}',
    )
    nowhere = str(folder / "nowhere.lens")
    methods = ("hello", "load", "prompt", "intervene", "steer", "efas", "causality", "index")
    requests = tuple(
        f'{{"jsonrpc": "2.0", "id": {n}, "method": "{method}", "params": {{"store": "{nowhere}", '
        f'"run": "r", "request": {asked[n % len(asked)]}}}}}\n{{"jsonrpc": "2.0", "id": "x{n}", '
        f'"method": "cancel", "params": {{"id": {n}}}}}\n'.encode()
        for n, method in enumerate(methods)
    )
    answers = (
        b'{"jsonrpc": "2.0", "id": 1, "result": {"reading": null}}',
        b'{"jsonrpc": "2.0", "id": 2, "error": {"code": -32000, "message": "no", "data": '
        b'{"kind": "UsageError"}}}',
        b'{"jsonrpc": "2.0", "method": "progress", "params": {"id": 3, "report": {"phase": "x", '
        b'"done": 1, "total": 2, "unit": "t"}}}',
    )
    return {
        "worker's answers": Target(answer, answers),
        "worker's requests": Target(request, requests, 2),
        "wire": Target(record, tuple(one.encode() for one in asked), 2),
    }


def _asked(store: Path) -> dict[str, Target]:
    """What a person types, or is told to paste."""
    opened: Store = open_catalog(store)
    confine(opened)
    info = opened.infos[0]
    listed = FeatureList(opened, info.run_id, info.saes[0].sae_id)
    names = sorted(named_queries())
    limits = Limits(2.0, 256 << 20)

    def filter_(text: bytes) -> None:
        with only_sentences():
            left, total = listed.arrange(
                text.decode("utf-8", "surrogateescape"), Sort("feature_id", False)
            )
            assert 0 <= left <= total

    def sql(text: bytes) -> None:
        before = _state(store)
        with only_sentences():
            ask(opened, text.decode("utf-8", "surrogateescape"), 20, limits)
        assert _state(store) == before, "the store has changed"

    def query(given: bytes) -> None:
        words = given.decode("utf-8", "surrogateescape").split("\n")
        values = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        name = words[0] if words[0] in names else names[len(words[0]) % len(names)]
        with only_sentences():
            call(opened, name, **values)

    filters = (
        b"n_active > 5", b"top_category:a -is_dense", b'note~"^non_"', b"score != nan word",
        b'label:"two words" feature_id<=3',
    )  # fmt: skip
    statements = (
        b"SELECT count(*) FROM tokens WHERE energy > 1.5 GROUP BY context_id LIMIT 3",
        b"WITH t AS (FROM codes) SELECT feature_id, sum(activation) FROM t GROUP BY ALL",
        b"PIVOT texts ON category USING count(*)", b"EXPLAIN ANALYZE SELECT 1", b"DESCRIBE tokens",
        b"FROM query_table('runs')", b"COPY (SELECT 1) TO 'x.csv'", b"SELECT [1, 2][1], {'a': 1}.a",
        b"INSERT INTO runs FROM runs", b"SUMMARIZE texts", b"VALUES (1, 'a'), (2, NULL)",
        b"SELECT 1; DROP TABLE runs", b"FROM read_csv('/etc/passwd')", b"SET threads = 1",
    )  # fmt: skip
    queries = tuple(
        "\n".join([name, "run=", *(f"{p.name}=1" for p in named_queries()[name].parameters)])
        for name in names
    )
    return {
        "filters": Target(filter_, filters, 20),
        "sql": Target(sql, statements, 5),
        "named queries": Target(query, tuple(one.encode() for one in queries), 5),
    }


def _state(store: Path) -> list[tuple[str, int, int]]:
    return [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        for path in (store, *store.iterdir())
    ]


def _files(store: Path, folder: Path) -> dict[str, Target]:
    """Files that are given to a command."""
    beside, config = folder / "beside", folder / "sae" / "cfg.json"
    layout = StoreLayout(store).runs()[0]
    info = read_run(layout.run_json)

    def texts(name: str) -> Feed:
        path = folder / "texts" / name

        def use() -> None:
            for text in iter_texts(str(path)):
                for part in (text.text, text.category, text.source):
                    assert part is None or part.encode().decode() == part

        return _fed_file(path, use)

    def explanations(name: str) -> Feed:
        path, run = folder / "explanations" / name, StoreLayout(folder / "said.lens").run("r")
        create_store(folder / "said.lens")
        database = duckdb.connect()

        def use() -> None:
            with patch.object(duckdb, "connect", database.cursor):  # a new one takes 20 ms
                explain(run, info, [path], info.saes[0].sae_id, True)

        return _fed_file(path, use)

    def sae() -> None:
        with suppress(ValueError, RecursionError):  # its reader makes an SaeError of them
            read_declared("x", read_config(config).get("metadata", {}))

    def header() -> None:
        with suppress(ValueError):
            check_header(folder / "sae" / "x.safetensors")

    keys = ["app.quit", "features.filter"]
    settings = folder / "settings.toml"
    said = pa.table({"feature_id": [1], "description": ["x"], "score": ["0.5"]})
    note = pa.Table.from_pylist(
        [{"run_id": "r", "sae_id": "s", "feature_id": 1, "is_starred": True, "note": "n"}],
        NOTES.arrow,
    )
    text = pa.table({"text": ["a", "b"], "category": ["x", None], "source": ["s", "t"]})
    rows = b'{"text": "a", "category": "b", "source": 3}\n{"text": "c", "input_ids": [1, 2]}\n'
    given = (
        b'{"index": "1", "description": "x", "modelId": "m", "layer": "l", "typeName": "t", '
        b'"scores": [{"value": 0.5, "explanationScoreTypeName": "recall"}]}\n'
    )
    metadata = {"hook_name": "blocks.1.hook_resid_post", "context_size": 16, "declared_l0": 3.0}
    return {
        "texts as JSONL": Target(texts("x.jsonl"), (rows,)),
        "texts as CSV": Target(texts("x.csv"), (b'text,category\n"a ""b""",c\nd,e\n',)),
        "texts as Parquet": Target(texts("x.parquet"), (_parquet(text),), 10),
        "plain texts": Target(texts("x.txt"), ("ä b\n".encode(),)),
        "explanations as JSONL": Target(explanations("x.jsonl"), (given,), 15),
        "explanations as CSV": Target(
            explanations("x.csv"), (b"feature_id,description,score\n1,x,0.5\n2,y,\n",), 15
        ),
        "explanations as Parquet": Target(explanations("x.parquet"), (_parquet(said),), 15),
        "notes": Target(
            _fed_file(beside / "notes", lambda: read_rows(beside / "notes", NOTES)),
            (_parquet(note),),
            10,
        ),
        "stored explanations": Target(
            _fed_file(beside / "said", lambda: read_rows(beside / "said", EXPLANATIONS)),
            (_parquet(EXPLANATIONS.arrow.empty_table()),),
            10,
        ),
        "settings": Target(
            _fed_file(settings, lambda: read_settings(settings, BUILTIN_THEMES, keys, is_key)),
            (b'theme = "nord"\nanimation = false\n[keys]\n"app.quit" = "ctrl+q,f10"\n',),
            2,
        ),
        "cfg.json": Target(_fed_file(config, sae), (json.dumps({"metadata": metadata}).encode(),)),
        "header of weights": Target(
            _fed_file(folder / "sae" / "x.safetensors", header), (b"\x08" + b"\0" * 7 + b"{}",)
        ),
        "text on a terminal": Target(_shown, ("\x1b]0;x\x07a\u202e\n\x9b7m".encode(),)),
    }


def _shown(content: bytes) -> None:
    text = content.decode("utf-8", "surrogateescape")
    for shown in (visible(text), *visible_lines(text).split("\n")):
        shown.encode()
        kinds = {unicodedata.category(character) for character in shown.replace("\u200d", "")}
        assert kinds.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"}), ascii(shown)


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()
