"""The long form of the null suite, behind `make nulls`: resumable, and told in docs/statistics.md.

    python -m tests.nulls.drive FOLDER [N_SEEDS [PART N_PARTS]] [--only SIMULATION]

writes a line for each simulated run to FOLDER and leaves out those that are there; at the end (of
the only part, or with `report` for N_SEEDS) the rates go to benchmarks/results/nulls.json and the
table into the documentation. With --only one simulation is made, and what is known of other columns
stays.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

from tests.nulls.memory import Memory
from tests.nulls.simulations import SIMULATIONS, due, simulate
from tests.nulls.tally import COVER, FALSE, NULL, POWER, Rate

N_SEEDS = 80
ROOT = Path(__file__).resolve().parents[2]
RESULTS, DOC = ROOT / "benchmarks/results/nulls.json", ROOT / "docs/statistics.md"
_BEGIN, _END = "<!-- table: make nulls -->", "<!-- end of table -->"


def main(
    folder: Path, n_seeds: int, part: int = 0, n_parts: int = 1, only: str | None = None
) -> None:
    """Simulate, be it one simulation alone, and keep what was counted."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {(r["simulation"], r["layout"], r["seed"]) for r in _lines(folder)}
    memory = Memory()
    with (folder / f"part-{part}-of-{n_parts}.jsonl").open("a", encoding="utf-8") as out:
        for seed in range(part, n_seeds, n_parts):
            for simulation, layout in due(seed // n_parts if n_parts > 1 else seed):
                if only not in (None, simulation.name):
                    continue
                if (simulation.name, layout.name, seed) in done:
                    continue
                tally = simulate(memory, simulation, layout, seed)
                row = {"simulation": simulation.name, "layout": layout.name, "seed": seed}
                out.write(json.dumps(row | {"counts": tally.counts}) + "\n")
                out.flush()


def report(folder: Path, known: dict[str, dict]) -> None:
    """Rates of everything counted, and those `known` of other columns, as JSON and as a table."""
    rows = _lines(folder)
    by: dict[str, dict[str, list[list[int]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for key, counts in row["counts"].items():
            by[key][row["layout"]].append(counts)
    found = dict(known)
    for key in by:
        whole = Rate.of([counts for runs in by[key].values() for counts in runs])
        layouts = {name: vars(Rate.of(runs)) for name, runs in sorted(by[key].items())}
        found[key] = {**vars(whole), "layouts": layouts}
    found = dict(sorted(found.items()))
    RESULTS.write_text(json.dumps(_rounded(found), indent=1) + "\n", encoding="utf-8")
    text = DOC.read_text(encoding="utf-8")
    head, rest = text.split(_BEGIN)
    DOC.write_text(f"{head}{_BEGIN}\n{table(found)}\n{_END}{rest.split(_END)[1]}", encoding="utf-8")


def table(found: dict[str, dict]) -> str:
    """Two tables: levels with power, and intervals."""
    columns = sorted({key.split("|")[0] for key in found})
    levels = ["| p or q | tests | runs | rejected at 5 % | worst layout | power |",
              "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    intervals = ["| interval | intervals | runs | hold the truth | worst layout |",
                 "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for column in columns:
        null, cover = found.get(f"{column}|{NULL}"), found.get(f"{column}|{COVER}")
        if null:
            worst = max(null["layouts"].items(), key=lambda item: item[1]["share"])
            power, wrong = found.get(f"{column}|{POWER}"), found.get(f"{column}|{FALSE}")
            told = f"{power['share']:.2f}" if power else ""
            told += f"; {wrong['share']:.3f} of discoveries are none" if wrong else ""
            levels.append(f"| {column} | {null['n']:,} | {null['n_runs']} | {_share(null)} | "
                          f"{worst[0]} {_share(worst[1])} | {told} |")  # fmt: skip
        if cover:
            worst = min(cover["layouts"].items(), key=lambda item: item[1]["share"])
            intervals.append(f"| {column} | {cover['n']:,} | {cover['n_runs']} | {_share(cover)} | "
                             f"{worst[0]} {_share(worst[1])} |")  # fmt: skip
    return "\n".join([*levels, "", *intervals])


def _share(rate: dict) -> str:
    return f"{rate['share']:.3f} ± {rate['error']:.3f}"


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(own) for name, own in value.items()}
    return round(value, 5) if isinstance(value, float) else value


def _lines(folder: Path) -> list[dict]:
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.endswith("}}"):  # the last line of a run that was stopped may be cut
                found.append(json.loads(line))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*", metavar="N_SEEDS [PART N_PARTS], or report")
    parser.add_argument("--only", choices=[simulation.name for simulation in SIMULATIONS])
    given = parser.parse_args()
    numbers = [int(word) for word in given.words if word != "report"]
    if "report" not in given.words:
        main(given.folder, *(numbers or [N_SEEDS]), only=given.only)
    if "report" in given.words or len(numbers) < 3:
        report(given.folder, json.loads(RESULTS.read_text("utf-8")) if given.only else {})
