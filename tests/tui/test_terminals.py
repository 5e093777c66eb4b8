"""What goes out to terminals of all kinds."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

RGB = re.compile(rb"[34]8;2;(\d+);(\d+);(\d+)")
INDEXED = re.compile(rb"[34]8;5;(\d+)")
PATIENCE = 60.0


Steps = tuple[tuple[bytes, bytes], ...]
STAR = "★".encode()
FEATURES: Steps = ((b"fvu", b"2"), (STAR, b"\x11"))
"""What is waited for, and what is then typed: to the table of features, and out."""
CONTEXTS: Steps = ((b"fvu", b"2"), (STAR, b"\r"), (b" pos ", b"\x11"))
"""To the first feature's contexts: the status line tells the position once they are drawn."""


def drawn(store: Path, environment: dict[str, str], steps: Steps = FEATURES) -> bytes:
    """What the program writes to a terminal of 80x24 while it is led along some steps."""
    own = {k: v for k, v in os.environ.items() if k not in ("COLORTERM", "NO_COLOR", "TERM")}
    main, side = pty.openpty()
    os.set_blocking(main, False)
    subprocess.run(["stty", "cols", "80", "rows", "24"], stdin=side, check=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "energylens", "tui", str(store)],
        stdin=side, stdout=side, stderr=side, env=own | environment,
    )  # fmt: skip
    os.close(side)
    out, left, end = b"", list(steps), time.monotonic() + PATIENCE
    try:
        while process.poll() is None and time.monotonic() < end:
            if select.select([main], [], [], 0.2)[0]:
                try:
                    out += os.read(main, 65536)
                except OSError:  # the other side is closed
                    break
            if left and left[0][0] in out:
                os.write(main, left.pop(0)[1])
        assert process.wait(10) == 0
    finally:
        process.kill()
        os.close(main)
    assert not left, out[-500:]
    return out


def also(*terms: str) -> list[ParameterSet]:
    """Further terminals, of the same kind as the first: for a run that may take longer."""
    return [pytest.param(term, marks=pytest.mark.slow) for term in terms]


def is_grey(index: int) -> bool:
    """Whether an entry of the 256 colours has no hue."""
    if index >= 232 or index in (0, 7, 8, 15):
        return True
    if index < 16:
        return False
    red, green, blue = (index - 16) // 36, (index - 16) // 6 % 6, (index - 16) % 6
    return red == green == blue


def test_a_terminal_of_24_bits_gets_them(store_path: Path) -> None:
    out = drawn(store_path, {"TERM": "xterm-256color", "COLORTERM": "truecolor"})
    assert RGB.search(out)


@pytest.mark.parametrize("term", ["xterm-256color", *also("screen-256color", "tmux-256color")])
def test_plain_ssh_gets_256_colours(store_path: Path, term: str) -> None:
    out = drawn(store_path, {"TERM": term, "SSH_CONNECTION": "a 1 b 2"})
    assert INDEXED.search(out) and not RGB.search(out)


@pytest.mark.parametrize("term", ["screen", *also("xterm", "linux")])
def test_old_terminals_get_16_colours(store_path: Path, term: str) -> None:
    out = drawn(store_path, {"TERM": term})
    assert not INDEXED.search(out) and not RGB.search(out)
    assert re.search(rb"\x1b\[[0-9;]*4[0-7]", out), "something is coloured"


def test_digits_stand_beside_shades_where_colours_are_few(store_path: Path) -> None:
    for term, has_digits in (("xterm", True), ("xterm-256color", False)):
        out = drawn(store_path, {"TERM": term}, CONTEXTS)
        assert any(digit.encode() in out for digit in "³⁴⁵⁶⁷⁸⁹") is has_digits, term


def test_no_color_leaves_greys(store_path: Path) -> None:
    out = drawn(store_path, {"TERM": "xterm-256color", "NO_COLOR": "1"})
    assert all(red == green == blue for red, green, blue in RGB.findall(out))
    assert all(is_grey(int(index)) for index in INDEXED.findall(out))


@contextmanager
def running(path: Path, *before: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The program with its first rows on a terminal, and the other end of that."""
    main, side = pty.openpty()
    subprocess.run(["stty", "cols", "80", "rows", "24"], stdin=side, check=True)
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "energylens", "tui", str(path)],
        stdin=side, stdout=side, stderr=side, env=os.environ | {"TERM": "xterm"},
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(side, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(side)
    out, end = b"", time.monotonic() + PATIENCE
    try:
        while b"fvu" not in out and time.monotonic() < end:
            out += os.read(main, 65536) if select.select([main], [], [], 0.2)[0] else b""
        assert b"fvu" in out
        yield process, main
    finally:
        process.kill()
        process.wait()


_IGNORING = (
    "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    "os.execv(sys.executable, sys.argv[1:])"
)
NO_HUP = (sys.executable, "-c", _IGNORING)


@pytest.mark.parametrize("before", [(), NO_HUP], ids=["plain", "under nohup"])
def test_a_terminal_that_is_gone_ends_the_program(store_path: Path, before: tuple) -> None:
    with running(store_path, *before) as (process, main):
        os.close(main)
        assert process.wait(PATIENCE) == 129


@pytest.mark.parametrize(("kind", "status"), [("HUP", 129), ("TERM", 143), ("INT", 130)])
def test_a_signal_ends_it_in_order_and_is_told_by_the_status(
    store_path: Path, kind: str, status: int
) -> None:
    with running(store_path) as (process, main):
        process.send_signal(signal.Signals[f"SIG{kind}"])
        out = b""
        while b"\x1b[?1049l" not in out:  # back from the other screen
            assert select.select([main], [], [], PATIENCE)[0]
            out += os.read(main, 65536)
        assert process.wait(PATIENCE) == status
        with suppress(OSError):  # the end of what was written
            while select.select([main], [], [], 1.0)[0] and (more := os.read(main, 65536)):
                out += more
        assert b"Traceback" not in out and b"leaked" not in out, "the terminal is left clean"
        os.close(main)


def test_under_nohup_a_hang_up_is_not_heard(store_path: Path) -> None:
    with running(store_path, *NO_HUP) as (process, main):
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 143
        os.close(main)
