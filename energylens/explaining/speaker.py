"""What answers a prompt: a model on this machine, or one behind an address."""

from dataclasses import dataclass
from typing import Protocol

_CHARACTERS = 4
"""Of a token of English text, about (OpenAI's rule of thumb for its tokenizers)."""


@dataclass(frozen=True)
class Prompt:
    """What a model is asked."""

    system: str
    user: str
    most_tokens: int
    """The answer is cut here."""

    @property
    def n_tokens(self) -> int:
        """Tokens of it, about; whose model answers may count otherwise."""
        return -(-(len(self.system) + len(self.user)) // _CHARACTERS)


class Speaker(Protocol):
    """A language model that follows instructions."""

    @property
    def name(self) -> str:
        """Which model it is, as it is stored."""
        ...

    def say(self, prompt: Prompt) -> str:
        """Its answer, the most likely one.

        Raises:
            SpeakerError: there is none to be had.
        """
        ...
