"""Whether a stranger's bytes make this process touch what is not its own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WRITES = {
    "os.chmod", "os.link", "os.mkdir", "os.mkfifo", "os.remove", "os.rename", "os.rmdir",
    "os.symlink", "os.truncate", "shutil.copyfile", "shutil.move", "shutil.rmtree",
}  # fmt: skip
_NEVER = {"os.system", "os.exec", "os.fork", "os.posix_spawn", "socket.connect", "subprocess.Popen"}


class Outside(Exception):  # noqa: N818 - the worst that a target can do has a name of its own
    """Something outside the folder of a target was touched."""


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Within the block Python itself writes nowhere but below a folder, runs no command and calls
    nobody. What DuckDB and Arrow open is theirs; a look at the files afterwards tells."""
    is_on = True
    here = str(folder.resolve())

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if not is_on:
            return
        if event in _NEVER:
            raise Outside(f"{event} {arguments}")
        if event in _WRITES:
            paths = [one for one in arguments if isinstance(one, (str, bytes, Path))]
        elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            paths = [arguments[0]]
        else:
            return
        for path in paths:
            if isinstance(path, (str, Path)) and not str(Path(path).absolute()).startswith(here):
                raise Outside(f"{event} {arguments}")

    sys.addaudithook(watch)
    try:
        yield
    finally:
        is_on = False
