"""Many processes read a store while another ingests and indexes it, a shard at a time.

    python -m tests.faults.readers FOLDER [--readers 20] [--texts 60]

Each reader opens the store again and again, and beside it keeps one open that it refreshes. Tables
must agree with one another at every moment, no count may go down, and nothing may be an error but
that a file of the index has gone, which another index was put in place of; then the store is read
anew. When the writer is done all readers must see the same, and it is what a store holds that
nobody read.
"""

import argparse
import faulthandler
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from energylens.db.store import Store, reread
from energylens.db.verify import verify_store
from energylens.errors import StoreError
from energylens.ingest.index.build import build_indexes
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, Loaded, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.queries.catalog import open_catalog
from tests.conftest import N_CTX
from tests.faults.commands import Stage, build_stage
from tests.faults.drive import contents, ended, started

_PAUSE = 0.1
"""Seconds between two looks, which the writer has for itself."""
SHARDS = (
    """SELECT
        (SELECT count(*) FROM tokens) AS tokens,
        (SELECT count(*) FROM contexts) AS contexts,
        (SELECT count(*) FROM codes) AS codes,
        (SELECT count(*) FROM energies) AS energies""",
    {
        "contexts with other tokens than they say": """
            SELECT count(*) FROM contexts AS c FULL JOIN (
                SELECT t.context_id, count(*) AS n FROM tokens AS t GROUP BY 1
            ) AS t ON t.context_id = c.context_id WHERE t.n IS DISTINCT FROM c.n_tokens""",
        "codes without a token": "SELECT count(*) FROM codes ANTI JOIN tokens USING (token_index)",
        "tokens without energies of each layer": """
            SELECT count(*) FROM tokens AS t FULL JOIN (
                SELECT e.token_index, count(*) AS n FROM energies AS e GROUP BY 1
            ) AS e ON e.token_index = t.token_index WHERE e.n IS DISTINCT FROM 4""",
    },
)
INDEX = (
    "SELECT count(*) AS feature_codes FROM feature_codes",
    {
        "codes that no shard has": """
            SELECT count(*) FROM feature_codes ANTI JOIN codes USING (token_index, feature_id)""",
        "features that are not as active as there are codes": """
            SELECT count(*) FROM features AS f FULL JOIN (
                SELECT c.feature_id, count(*) AS n FROM feature_codes AS c GROUP BY 1
            ) AS c ON c.feature_id = f.feature_id
            WHERE coalesce(c.n, 0) <> coalesce(f.n_active_unmasked, 0)""",
    },
)
"""What is counted, and what must be 0 in every store that is whole, however much of it there is."""


def build_loaded(stage: Stage, n_texts: int) -> Loaded:
    """A model with its SAE over so many texts, each of them about a shard."""
    texts = stage.folder / "more.jsonl"
    words = [
        "the",
        "cat",
        "sat",
        "on",
        "a",
        "mat",
        "and",
        "a",
        "dog",
        "barks",
        "back",
        "all",
        "night",
    ]
    rows = [" ".join(words[i % 7 : i % 7 + 6]) for i in range(n_texts)]
    texts.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return load(
        IngestConfig(
            model=str(stage.folder / "model"), texts=str(texts), saes=(str(stage.folder / "sae"),),
            n_ctx=N_CTX, accept_gate=True, run_id="r",
        )
    )  # fmt: skip


def write(store: Path, loaded: Loaded, every: int) -> None:
    """Ingest a shard at a time, and make the index anew after so many."""
    faulthandler.cancel_dump_traceback_later()
    prepared = prepare(store, loaded)
    n = prepared.run.n_shards
    for number in range(n):
        ingest(prepared, Part(number, n), Progress())
        if (number + 1) % every == 0:
            build_indexes(store, Progress(), n_flips=9)
    build_indexes(store, Progress(), n_flips=9)
    (store.parent / "done").touch()


def look(store: Store, asked: tuple[str, dict[str, str]], before: dict[str, int]) -> dict[str, int]:
    """The counts of a store, which agree with one another and are not below those before."""
    counts, disagree = asked
    con = store.cursor()
    row = con.sql(counts)
    found = dict(zip(row.columns, row.fetchall()[0], strict=True))
    for name, n in found.items():
        assert n >= before.get(name, 0), f"{name} went down from {before[name]} to {n}"
    for what, query in disagree.items():
        wrong = con.execute(query).fetchall()[0][0]
        assert not wrong, f"{wrong} {what}, with {found}"
    return before | found


class Reader:
    """Looks at a store, and remembers what it saw last."""

    def __init__(self) -> None:
        self.answers, self.again = 0, 0
        self.seen: dict[str, int] = {}

    def look(self, store: Store) -> None:
        tries = 0

        def seen() -> dict[str, int]:
            nonlocal tries
            tries += 1
            return look(store, INDEX, look(store, SHARDS, self.seen))

        self.seen = reread(store, seen)
        self.answers, self.again = self.answers + 1, self.again + tries - 1


def read(path: Path, report: Path) -> None:
    """Look at a store until its writer is done, then once more; what was seen."""
    faulthandler.cancel_dump_traceback_later()
    kept, of_kept, of_opened, is_last = None, Reader(), Reader(), False
    while not is_last:
        time.sleep(_PAUSE)
        is_last = (path.parent / "done").exists()
        try:
            kept = kept or open_catalog(path)
        except StoreError as error:  # it has not been begun
            assert "there is no store" in str(error) and not of_opened.seen, error
            continue
        kept.refresh()
        of_kept.look(kept)
        with open_catalog(path) as opened:
            of_opened.look(opened)
    assert of_opened.seen == of_kept.seen, "one that is refreshed shows what one opened anew does"
    found = {
        "answers": of_kept.answers + of_opened.answers,
        "again": of_kept.again + of_opened.again,
        "counts": of_opened.seen,
    }
    report.write_text(json.dumps(found))


def drive(stage: Stage, n_readers: int, n_texts: int, every: int) -> dict[str, Any]:
    """How often readers looked, and what they saw in the end.

    Raises:
        AssertionError: a reader or the writer failed, or the store is not what it should be.
    """
    folder, loaded = stage.folder, build_loaded(stage, n_texts)
    alone, store = folder / "alone" / "x.lens", folder / "read" / "x.lens"
    reports = [folder / f"reader-{i}.json" for i in range(n_readers)]
    for path in (alone, store):
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
    assert ended(started(lambda: write(alone, loaded, n_texts))) == 0
    readers = [started(lambda r=report: read(store, r)) for report in reports]
    writer = ended(started(lambda: write(store, loaded, every)))
    codes = [ended(child) for child in readers]
    assert [writer, *codes] == [0] * (n_readers + 1), "see what they wrote above"
    assert verify_store(store) == []
    one, other = contents(alone, True), contents(store, True)
    assert {n: len(rows) for n, rows in one.items()} == {n: len(r) for n, r in other.items()}
    for table in ("tokens", "codes", "energies", "feature_codes"):
        assert one[table] == other[table], table
    found = [json.loads(report.read_text()) for report in reports]
    assert len({json.dumps(each["counts"]) for each in found}) == 1
    return {
        "readers": n_readers,
        "answers": sum(each["answers"] for each in found),
        "again": sum(each["again"] for each in found),
        "shards": loaded.plan.n_shards,
        "counts": found[0]["counts"],
    }


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--readers", type=int, default=20)
    asked.add_argument("--texts", type=int, default=60)
    asked.add_argument("--every", type=int, default=2, help="shards from one index to the next")
    given = asked.parse_args()
    stage = build_stage(given.folder, started, ended)
    found = drive(stage, given.readers, given.texts, given.every)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
