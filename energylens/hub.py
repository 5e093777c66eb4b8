"""The Hugging Face hub: whether it can be reached, asked once and briefly.

Its client tries again for half a minute before it says that nobody answers; here it is asked before
the client is, and where it does not answer the client reads what it has kept and asks nobody.
"""

import os
import re
from functools import cache
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from ssl import SSLError
from threading import Thread
from typing import Literal
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from energylens.errors import HubError

_WAIT = 1.5
"""Seconds an answer may take where HF_HUB_ETAG_TIMEOUT, the client's own setting, says nothing."""
_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
_FILE = re.compile(
    r"([\w-][\w.-]*/[\w-][\w.-]*)/((?:[\w-][\w.-]*/)*[\w-][\w.-]*\.gguf)", re.ASCII | re.IGNORECASE
)
_TRUE = {"1", "ON", "YES", "TRUE"}

Kind = Literal["model", "dataset"]


def endpoint() -> str:
    """The hub's address; that of a mirror where HF_ENDPOINT names one."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def is_here(source: str) -> bool:
    """Whether a model or SAE is bundled, or looked for among files and folders alone."""
    return source.startswith(("builtin:", ".", "/", "~")) or Path(source).exists()


def hub_file(source: str) -> tuple[str, str] | None:
    """The repository and its file that OWNER/NAME/FILE.gguf names; None where it is no such name,
    or a file here."""
    found = None if is_here(source) else _FILE.fullmatch(source)
    return None if found is None else (found[1], found[2])


def model_repository(source: str) -> str | None:
    """The repository that a model is looked for in; None where it is looked for here."""
    file = hub_file(source)
    if file is not None:
        return file[0]
    return None if is_here(source) or source.lower().endswith(".gguf") else source


def why_unreachable() -> str | None:
    """Why the hub cannot be asked, in a few words; None where it answers.

    Takes no longer than a second and a half, also where a name server or the hub never answers;
    HF_HUB_ETAG_TIMEOUT gives another number of seconds. Any answer counts, also one that refuses,
    and one whose certificate is not known here, for the client knows others.
    """
    if any(_is_set(name) for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        return "HF_HUB_OFFLINE is set"
    try:
        _reach(endpoint(), _wait())
    except ConnectionError as error:
        return str(error)
    return None


def need_hub(what: str, name: str, kind: Kind = "model") -> None:
    """Make sure that something can be had from the hub, or is kept here from before; in the
    second case its client does not ask the hub when it is asked.

    Raises:
        HubError: the hub does not answer, and nothing of it is kept here.
    """
    if not _NAME.fullmatch(name):
        return  # the client says best what is wrong with it
    reason = why_unreachable()
    _let_client_ask(reason is None)
    if reason is None or (kind == "model" and _is_kept(name)):
        return
    raise HubError(
        f"{what} is not on this machine and the hub ({endpoint()}) cannot be reached: {reason}; "
        "check the name and the network, or give a file or folder"
    )


@cache  # an answer is remembered, a failure is not: the network may come back
def _reach(address: str, seconds: float) -> None:
    """Wait for an answer of an address.

    Raises:
        ConnectionError: none came; its text says why.
    """
    said: list[str | None] = []
    # a thread, for no time limit holds for the look-up of a name
    thread = Thread(target=lambda: said.append(_ask(address, seconds)), daemon=True)
    thread.start()
    thread.join(seconds)
    reason = said[0] if said else f"no answer within {seconds:g} s"
    if reason is not None:
        raise ConnectionError(reason)


def _ask(address: str, seconds: float) -> str | None:
    if not address.startswith(("http://", "https://")):
        return "HF_ENDPOINT is no address"
    try:
        urlopen(Request(address, method="HEAD"), timeout=seconds).close()
    except (HTTPError, SSLError):
        return None
    except (OSError, HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, SSLError):
            return None
        return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return None


def _wait() -> float:
    given = os.environ.get("HF_HUB_ETAG_TIMEOUT", "")
    return float(given) if given.isdecimal() and int(given) else _WAIT


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in _TRUE


def _is_kept(name: str) -> bool:
    """Whether the client keeps anything of a model's repository."""
    from huggingface_hub.constants import HF_HUB_CACHE  # all else of it takes a second to load

    folder = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    return any((folder / "snapshots").glob("*/*"))


def _let_client_ask(may: bool) -> None:
    """Let the hub's client ask it, or read what it has kept and ask nobody."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = not may


def registered_repository(release: str) -> str | None:
    """The repository of a release in sae-lens' registry, without loading sae-lens and parsing 1.5
    MB of YAML; None where there is no such release."""
    found = find_spec("sae_lens")
    if found is None or not found.submodule_search_locations:
        return None
    registry = Path(found.submodule_search_locations[0]) / "pretrained_saes.yaml"
    with registry.open(encoding="utf-8") as lines:
        is_inside = False
        for line in lines:
            if not line.startswith((" ", "-", "#")):
                is_inside = line.rstrip() == f"{release}:"
            elif is_inside and line.startswith("  repo_id:"):
                return line.partition(":")[2].strip().strip("'\"")
    return None
