"""TOML files that a user writes, under the configuration folder."""

import stat
import tomllib
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from energylens.errors import UsageError

_MOST_BYTES = 1 << 20


def user_folder() -> Path:
    """Where they are looked for: under XDG_CONFIG_HOME, or what stands for it here."""
    return user_config_path("energylens")


def read_toml(path: Path) -> dict[str, Any]:
    """What stands in a file; nothing where there is none.

    Raises:
        UsageError: it is no plain file, too large, or no TOML.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
            raise UsageError(f"'{path}' is no plain file; put a TOML file in its place")
        if found.st_size > _MOST_BYTES:
            raise UsageError(f"'{path}' has {found.st_size:,} bytes, which no such file needs")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except RecursionError as error:
        raise UsageError(f"'{path}' cannot be read: it is nested too deeply") from error
    except (OSError, ValueError) as error:  # of TOML, of UTF-8, of numbers too long for one
        raise UsageError(f"'{path}' cannot be read: {error}") from error
