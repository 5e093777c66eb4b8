"""Every error Energy-Lens raises on purpose.

    EnergyLensError                exit 1: it failed
    ├── UsageError                 exit 2: what was asked cannot be done as asked
    │   ├── MissingExtraError      an optional dependency is not installed
    │   ├── PlatformError          this system has not what is needed
    │   ├── HubError               the hub cannot be reached, and what was asked is not kept here
    │   ├── TextsError             the texts cannot be read
    │   ├── ModelError             the model cannot be loaded or lacks what was asked
    │   ├── SaeError               the SAE cannot be loaded or does not fit
    │   └── QueryError             the SQL or the named query is wrong
    │       ├── RunawayError       a query took too much and cannot be ended
    │       └── UnknownNameError   no run, SAE, feature, text, category or query is so called
    ├── StoreError                 the store cannot be read or written
    │   ├── StoreVersionError      another format version wrote it
    │   ├── StoreDamagedError      what is on disk is not what was written
    │   └── StoreBusyError         another writer holds what this one needs
    ├── IngestError                the run could not go on
    ├── TrainingError              the training could not go on
    ├── SpeakerError               a language model that was asked gave no answer
    └── CheckRefusedError          exit 3: a check said no

A message names what was wrong with what, and what to do next.
"""

import shlex
from importlib.metadata import PackageNotFoundError, requires


class EnergyLensError(Exception):
    """Base of all errors; `exit_code` is what the command returns."""

    exit_code = 1


class UsageError(EnergyLensError):
    """What was asked cannot be done as asked."""

    exit_code = 2


class MissingExtraError(UsageError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, missing: str) -> None:
        super().__init__(
            f"this needs the extra '{extra}' ({missing} is not installed); "
            f"install it with: {install_command(extra)}"
        )


MODEL_PACKAGES = ("torch", "transformers", "transformer_lens", "sae_lens")
"""What the extra `models` brings, as it is imported."""


def why_no_models(error: ModuleNotFoundError) -> UsageError:
    """Why models cannot be run here: the extra is not installed, or a module is missing for
    another reason."""
    name = error.name or ""
    if name in MODEL_PACKAGES:
        return MissingExtraError("models", name)
    return UsageError(
        f"models cannot be run here: the module '{name}' is missing ({error}), which the extra "
        "'models' alone does not bring: an installation is damaged, or of another version; make "
        f"it anew with: {install_command('models')}"
    )


def install_command(extra: str) -> str:
    """What installs an extra beside the Energy-Lens that runs, wherever that came from: its
    requirements by name, for neither a checkout nor a wheel may be at hand any more."""
    try:
        listed = [line.partition(";") for line in requires("energy-lens") or ()]
    except PackageNotFoundError:  # a checkout that was never installed
        return f"pip install '.[{extra}]' in the folder of Energy-Lens"
    names = [name.strip() for name, _, marker in listed if f"'{extra}'" in marker.replace('"', "'")]
    return "pip install " + " ".join(shlex.quote(name) for name in names)


class PlatformError(UsageError):
    """The system is neither Linux nor macOS."""

    def __init__(self) -> None:
        super().__init__(
            "Energy-Lens runs on Linux and macOS; on Windows, run it in WSL "
            "(https://learn.microsoft.com/windows/wsl)"
        )


class HubError(UsageError):
    """The hub cannot be reached, and what was asked of it is not kept here."""


class TextsError(UsageError):
    """The texts cannot be read."""


class ModelError(UsageError):
    """The model cannot be loaded, or lacks what was asked of it."""


class SaeError(UsageError):
    """The SAE cannot be loaded, or does not fit the model."""


class QueryError(UsageError):
    """The SQL or the named query is wrong, or asks for more than reading."""


class RunawayError(QueryError):
    """A query took more than it may and cannot be ended but with its process."""


class UnknownNameError(QueryError):
    """No run, SAE, feature, text, category or query is so called, or several could be meant."""


class StoreError(EnergyLensError):
    """The store cannot be read or written."""


class StoreVersionError(StoreError):
    """Another format version wrote the store."""


class StoreDamagedError(StoreError):
    """What is on disk is not what was written."""


class StoreBusyError(StoreError):
    """Another writer holds what this one needs."""


class IngestError(EnergyLensError):
    """The run could not go on."""


class TrainingError(EnergyLensError):
    """The training could not go on; the last good checkpoint is kept."""


class SpeakerError(EnergyLensError):
    """A language model that was asked for words gave none."""


class CheckRefusedError(EnergyLensError):
    """A check said no, with its reason."""

    exit_code = 3
