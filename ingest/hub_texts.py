"""Texts of a dataset of the hub, or of a local one of the same form, streamed by `datasets`.

They are named `hf:NAME[:CONFIG][:SPLIT][@REVISION]`. NAME is a name of the hub, a directory of data
files, or one that `Dataset.save_to_disk` wrote.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from energylens.errors import TextsError
from energylens.hub import need_hub

PREFIX = "hf:"
_FORMATS = ("arrow", "csv", "json", "parquet", "text")
"""What is read; `datasets` knows others, of which one runs what its files say."""
_SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")


@dataclass(frozen=True)
class HubTexts:
    """What a spec names."""

    name: str
    config: str | None
    split: str | None
    revision: str | None
    """A commit, branch or tag of the hub; None takes the newest."""

    @property
    def is_local(self) -> bool:
        return Path(self.name).exists()

    @property
    def spec(self) -> str:
        """What names it."""
        parts = [part for part in (self.config, self.split) if part is not None]
        at = "" if self.revision is None else f"@{self.revision}"
        return PREFIX + ":".join([self.name, *parts]) + at


def pinned(spec: str) -> tuple[str, str]:
    """The spec with split and commit, so that it names the same texts at any time, and the
    revision: of the hub its commit, of a directory what `datasets` calls its state.

    Raises:
        TextsError: there is no such dataset or split.
        HubError: the hub cannot be reached.
    """
    asked = _parse(spec)
    with _told(spec):
        splits, revision = _open(asked)
        split = _split(asked, sorted(splits))
    commit = asked.revision if asked.is_local else revision
    return replace(asked, split=split, revision=commit).spec, revision


def hub_rows(spec: str) -> Iterator[Mapping[str, object]]:
    """The rows of a dataset's split, in their order.

    Raises:
        TextsError: there is no such dataset or split, or a row cannot be read.
        HubError: the hub cannot be reached.
    """
    asked = _parse(spec)
    with _told(spec):
        splits, _ = _open(asked)
        yield from splits[_split(asked, sorted(splits))]


def hub_files(spec: str) -> tuple[list[str], list[Path]]:
    """What a pinned spec names: words that do, and the files of a directory."""
    asked = _parse(spec)
    if not asked.is_local:
        return [asked.spec], []
    files = sorted(path for path in Path(asked.name).rglob("*") if path.is_file())
    return [asked.config or "", asked.split or ""], files


def need_texts(spec: str) -> None:
    """Make sure that texts of the hub can be asked for, before what reads them is loaded.

    Raises:
        HubError: the hub cannot be reached.
    """
    _need(_parse(spec))


def _need(asked: HubTexts) -> None:
    if not asked.is_local:
        need_hub(f"the dataset '{asked.name}'", asked.name, "dataset")


def _parse(spec: str) -> HubTexts:
    """Names of the hub hold neither colon nor @; a directory's may, and the longest that exists is
    meant."""
    rest = spec.removeprefix(PREFIX)
    cuts = [i for i, character in enumerate(rest) if character in ":@"]
    cut = next((i for i in [len(rest), *reversed(cuts)] if Path(rest[:i]).exists()), None)
    if cut is None or cut == 0:
        cut = min(cuts, default=len(rest))
    name, (parts, _, revision) = rest[:cut], rest[cut:].partition("@")
    words = parts.split(":")[1:]
    if not name or len(words) > 2 or not all(words):
        raise TextsError(f"'{spec}' is not hf:NAME, hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT")
    config, split = [None, None, *words][-2:]
    return HubTexts(name, config, split, revision or None)


def _open(asked: HubTexts) -> tuple[Mapping[str, Any], str]:
    """Streams by split, and the revision."""
    _need(asked)
    import datasets

    datasets.logging.set_verbosity(logging.CRITICAL)  # what goes wrong is raised too
    if any((Path(asked.name) / name).exists() for name in _SAVED):
        saved = datasets.load_from_disk(asked.name)
        if isinstance(saved, datasets.Dataset):
            return {str(saved.split or "train"): saved}, saved._fingerprint
        return {str(name): part for name, part in saved.items()}, "-".join(
            part._fingerprint for part in saved.values()
        )
    builder = datasets.load_dataset_builder(asked.name, asked.config, revision=asked.revision)
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in _FORMATS:
        raise TextsError(
            f"the dataset '{asked.name}' is of the form '{kind}'; those that are read: "
            + ", ".join(_FORMATS)
        )
    streams = builder.as_streaming_dataset()
    assert isinstance(streams, dict), "no split was asked for"
    return streams, str(builder.hash)


def _split(asked: HubTexts, known: list[str]) -> str:
    if asked.split in known:
        return asked.split
    if asked.split is None and ("train" in known or len(known) == 1):
        return "train" if "train" in known else known[0]
    lack = "names no split" if asked.split is None else f"has no split '{asked.split}'"
    raise TextsError(f"'{asked.spec}' {lack}; there are: {', '.join(known)}")


@contextmanager
def _told(spec: str) -> Iterator[None]:
    """`datasets` raises what the libraries below it do."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (OSError, ValueError, RuntimeError, TypeError, DatasetsError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TextsError(f"the texts of '{spec}' cannot be read: {reason}") from error
