"""How long starts take, from the outside: the first frame of the terminal program in a terminal,
the answer where there is no store, and the worker's first prompt and first ablation.

    python -m benchmarks.starts STORE [TREE ...]

Each TREE is a checkout whose program is measured, in turns, so that all of them meet the same
machine; the one that is worked in where none is given. Wall and CPU seconds (the process's own,
all threads) of every round and their medians go to `benchmarks/results/starts.json`.
"""

import argparse
import fcntl
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 5
SIZE = (36, 120)
PATIENCE = 120.0
TEXT = "What is 15 + 27? The answer is 42."
Times = dict[str, float]


def cpu_of(pid: int) -> float:
    """CPU seconds a process has taken so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def in_terminal(tree: Path, arguments: list[str], marks: dict[str, bytes]) -> Times:
    """Seconds from exec until each mark has been painted, and CPU by then."""
    began = time.perf_counter()
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(tree)
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
        os.execv(sys.executable, [sys.executable, "-m", "energylens", "tui", *arguments])
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
    found: Times = {}
    screen = b""
    try:
        while len(found) < 2 * len(marks) and time.perf_counter() - began < PATIENCE:
            if not select.select([master], [], [], 1.0)[0]:
                continue
            try:
                screen += os.read(master, 1 << 16)
            except OSError:  # it has ended
                break
            for name, mark in marks.items():
                if f"{name}_s" not in found and mark in screen:
                    found[f"{name}_s"] = time.perf_counter() - began
                    found[f"{name}_cpu_s"] = cpu_of(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(master)
    return found


def first_frame(tree: Path, store: Path) -> Times:
    """The bar of views is the first thing that is drawn; then come the store's SAEs."""
    return in_terminal(tree, [str(store)], {"frame": b"Overview", "rows": b"blocks."})


def no_store(tree: Path, store: Path) -> Times:
    return in_terminal(tree, [f"{store}-nowhere"], {"missing": b"nowhere"})


def worker(tree: Path, store: Path) -> Times:
    """The first prompt, and then the first ablation."""
    run = next((store / "runs").iterdir()).name
    info = json.loads((store / "runs" / run / "run.json").read_text())
    sae_id = info["saes"][0]["sae_id"]
    edit = {"sae_id": sae_id, "feature_ids": [7]}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "energylens", "worker"],
        cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    found: Times = {}
    asked: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("prompt", "prompt", {"text": TEXT}),
        ("ablation", "intervene", {"text": TEXT, "edit": edit, "keep": False}),
    )
    for number, (name, method, request) in enumerate(asked):
        params = {"store": str(store), "run": run, "request": request}
        line = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        while "result" not in (answer := json.loads(process.stdout.readline())):
            assert "error" not in answer, answer
        found[f"{name}_s"] = time.perf_counter() - began
        found[f"{name}_cpu_s"] = cpu_of(process.pid)
    process.kill()
    process.wait()
    return found


MEASURED: tuple[Callable[[Path, Path], Times], ...] = (first_frame, no_store, worker)


def commit_of(tree: Path) -> str:
    """What is measured."""
    asked = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def medians(rounds: list[Times]) -> Times:
    return {name: round(statistics.median(one[name] for one in rounds), 2) for name in rounds[0]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("trees", nargs="*", type=Path, default=[Path.cwd()])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    store, trees = given.store.resolve(), [tree.resolve() for tree in given.trees]
    names = {tree: commit_of(tree) for tree in trees}
    rounds: dict[str, list[Times]] = {name: [] for name in names.values()}
    for _ in range(given.rounds):
        for tree in trees:
            times: Times = {}
            for measure in MEASURED:
                times |= measure(tree, store)
            rounds[names[tree]].append(times)
            print(names[tree], {name: round(value, 2) for name, value in times.items()})  # noqa: T201
    found = {
        "load": os.getloadavg(),
        "cores": os.cpu_count(),
        "medians": {tree: medians(listed) for tree, listed in rounds.items()},
        "rounds": rounds,
    }
    out = Path(__file__).parent / "results/starts.json"
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["medians"], indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
