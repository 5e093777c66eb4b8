"""A whole exploration by keyboard, in a real terminal: tmux, 80x24, keys sent as a person types.

    python -m tests.tui.explore_in_tmux STORE [DIRECTORY]

Finds the specialist of mathematics, reads its contexts, sees its EFAS and its anchors, ablates it,
filters the ranking by EFAS, asks for the feature in SQL, and exports the rows. Each step waits for
what must be on the screen. STORE is the demo's store; files are written to DIRECTORY, the working
directory by default.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 90.0
"""Seconds to wait for a text; the first ablation loads a model."""
STATEMENT = (
    "SELECT f.feature_id, f.top_category, e.efas, e.q FROM features f JOIN efas e "
    "USING (run_id, sae_id, feature_id) WHERE sae_id = 'blocks.2.hook_resid_post' "
    "AND feature_id = {feature} AND e.variant = 'lens'"
)


@dataclass
class Terminal:
    """One tmux session."""

    name: str

    def start(self, command: list[str], cwd: Path, columns: int = 80, lines: int = 24) -> None:
        shown = " ".join(shlex.quote(part) for part in command)
        size = ["-x", str(columns), "-y", str(lines)]
        self._tmux("new-session", "-d", "-s", self.name, *size, "-c", str(cwd), shown)

    def keys(self, *keys: str) -> None:
        """Press keys by tmux' names, one after the other."""
        for key in keys:
            self._tmux("send-keys", "-t", self.name, key)
            time.sleep(0.1)

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-t", self.name, "-l", text)

    @property
    def text(self) -> str:
        """What is on the screen."""
        return self._tmux("capture-pane", "-p", "-t", self.name)

    def wait(self, pattern: str) -> re.Match[str]:
        """Wait until the screen matches.

        Raises:
            AssertionError: it never does; the message has the screen.
        """
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = re.search(pattern, self.text)
            if found is not None:
                return found
            time.sleep(0.1)
        raise AssertionError(f"'{pattern}' never came:\n{self.text}")

    def stop(self) -> None:
        subprocess.run(["tmux", "kill-session", "-t", self.name], capture_output=True, check=False)

    @staticmethod
    def _tmux(*arguments: str) -> str:
        done = subprocess.run(["tmux", *arguments], capture_output=True, text=True, check=True)
        return done.stdout


def explore(store: Path, directory: Path) -> list[str]:
    """Drive the program; what was seen at each step.

    Raises:
        AssertionError: a step did not show what it must.
    """
    terminal = Terminal(f"energylens-{os.getpid()}")
    command = [sys.executable, "-m", "energylens", "tui", str(store.resolve())]
    terminal.start(command, directory)
    try:
        return _steps(terminal, directory)
    finally:
        terminal.stop()


def _steps(terminal: Terminal, directory: Path) -> list[str]:
    seen = []

    def note(what: str) -> None:
        seen.append(what)

    terminal.wait(r"1 run · \d+ SAEs")
    terminal.keys("3")
    terminal.wait(r"math ")
    terminal.keys("Down", "Down")
    terminal.wait(r"math in ")
    terminal.keys("Right", "Right", "Right", "Right")
    note(terminal.wait(r"math in blocks\.2\.hook_resid_post · \d+ of [\d,]+ features found")[0])

    terminal.keys("Enter", "Enter")
    feature = terminal.wait(r"Feature (\d+)\s+blocks\.2\.hook_resid_post")[1]
    note(f"feature {feature}: {terminal.wait(r'category  math.*')[0].strip()}")
    note(terminal.wait(r"\d  \d+\.\d+  math  text \d+")[0])
    terminal.keys("Right")
    note(terminal.wait(r"activation \S+ · energy \S+ nats")[0])

    terminal.keys("PageDown")
    note(terminal.wait(r"anchors  L\d .*")[0])
    terminal.keys("PageDown")
    note(terminal.wait(r"lens\s+-?[\d.]+  t\s+\S+  q .*")[0].strip())

    terminal.keys("a")
    note(terminal.wait(r"edited\s+\S+\s+\d\S*\s+\d\S*")[0])
    terminal.keys("Escape")
    terminal.wait(r"Feature \d+|activation by category")

    terminal.keys("*")
    terminal.wait(r"starred")
    terminal.keys("4")
    terminal.wait(r"tested at q")
    terminal.keys("/")
    terminal.wait(r"\d+ of [\d,]+ *\n")
    terminal.type("category:math q < 0.01")
    terminal.keys("Enter")
    note(terminal.wait(r"/ category:math q < 0\.01\s+\d+ of [\d,]+")[0])
    terminal.keys("8")
    terminal.wait(r"F5 Run|Run")
    terminal.keys("F7", "DC")  # select all, delete
    terminal.type(STATEMENT.format(feature=feature))
    terminal.keys("F5")
    terminal.wait(r"1 rows")
    terminal.keys("F6")
    note(terminal.wait(rf"{feature}\s+math\s+-?\d\S*\s+\S+")[0])
    terminal.keys("e")
    terminal.wait(r"csv: all 1 rows")
    terminal.keys("Enter")
    terminal.wait(r"sql-1\.csv")
    terminal.keys("Enter")
    terminal.wait(r"1 rows written")
    written = (directory / "sql-1.csv").read_text(encoding="utf-8").splitlines()
    assert written[0] == "feature_id,top_category,efas,q", written
    assert written[1].startswith(f"{feature},math,"), written
    note(f"exported: {written[1]}")
    terminal.keys("C-q")
    return seen


def main() -> None:
    store = Path(sys.argv[1])
    directory = Path(sys.argv[2]) if len(sys.argv) > 2 else Path.cwd()
    for line in explore(store, directory):
        print(line)  # noqa: T201


if __name__ == "__main__":
    main()
