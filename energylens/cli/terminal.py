"""What a terminal gets: text of ours and of strangers, in which nothing is obeyed."""

import codecs
import io
import re
import shutil
import sys
from typing import TextIO

from energylens.queries.display import visible, visible_lines

_AGAIN = re.compile(r"\r(?:\x1b\[2K)?")
"""How a line of progress begins that is drawn over the one before."""


class Terminal(io.TextIOWrapper):
    """A stream to a terminal that shows control and format characters instead of sending them.

    A write may begin with a return to the start of an open line, for progress is drawn so; a line
    that has ended is out of its reach.
    """

    _is_line_open = False

    _n_drawn = 0
    """Lines of a table that nothing was written after."""

    def draw(self, lines: list[str]) -> None:
        """Lines in the place of those that were drawn last, cut to the terminal's width and height;
        what was written before them is out of reach."""
        size = shutil.get_terminal_size()
        shown = [visible(line)[: size.columns - 1] for line in lines[: size.lines - 1]]
        back = f"\x1b[{self._n_drawn}A" if self._n_drawn else ""
        super().write(back + "".join(f"\r\x1b[2K{line}\n" for line in shown) + "\x1b[J")
        self.flush()
        self._n_drawn, self._is_line_open = len(shown), False

    def write(self, text: str, /) -> int:
        self._n_drawn = 0
        again = _AGAIN.match(text)
        rest = text[again.end() :] if again else text
        start = again[0] if again and self._is_line_open else ""
        if rest:
            self._is_line_open = not rest.endswith("\n")
        super().write(start + visible_lines(rest))
        return len(text)


def guard() -> None:
    """Let standard output and error, where they are terminals, show what they are given.

    Files and pipes get everything as it is.
    """
    sys.stdout, sys.stderr = _guarded(sys.stdout), _guarded(sys.stderr)


def _guarded(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper) or not stream.isatty():
        return stream
    stream.flush()
    is_ascii = codecs.lookup(stream.encoding).name == "ascii"  # typer would go round this stream
    encoding = "utf-8" if is_ascii else stream.encoding
    return Terminal(stream.buffer, encoding, "backslashreplace", line_buffering=True)
