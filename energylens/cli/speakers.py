"""The language model that `energylens explain` asks, as it is told on the command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from energylens.cli.extras import need_models
from energylens.cli.sources import need_sources
from energylens.errors import UsageError

if TYPE_CHECKING:
    from energylens.explaining.speaker import Speaker

ModelOption = Annotated[
    str | None,
    typer.Option(
        help="What answers: a directory, GGUF file or hub name of a model that follows "
        "instructions; with --endpoint, the model's name there."
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="An address that speaks as OpenAI's chat completions do, as far as /v1; the key, if "
        "it wants one, is in the variable ENERGYLENS_API_KEY.",
    ),
]


@dataclass(frozen=True)
class AskedModel:
    """A model, or one behind an address."""

    model: str
    endpoint: str | None

    @property
    def name(self) -> str:
        """As it is stored, wherever it lies on this machine."""
        is_here = self.endpoint is None and Path(self.model).exists()
        return Path(self.model).resolve().name if is_here else self.model

    def open(self) -> "Speaker":
        """Load it, or get ready to call it.

        Raises:
            UsageError: it cannot be loaded, or the address is none.
        """
        if self.endpoint is not None:
            from energylens.explaining.endpoint import Endpoint

            return Endpoint(self.endpoint, self.model)
        need_models()
        need_sources(self.model)
        from energylens.lens.speaker import LocalSpeaker

        return LocalSpeaker(self.model, self.name)


def asked_model(model: str | None, endpoint: str | None) -> AskedModel:
    """What was asked for; nothing is ever called that was not.

    Raises:
        UsageError: no model was named.
    """
    if model is None or not model.strip():
        raise UsageError(
            "say which language model is asked: --model DIR for one on this machine, or "
            "--endpoint URL --model NAME for one behind an address"
        )
    return AskedModel(model, endpoint)
