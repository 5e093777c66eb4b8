"""A language model behind an address that speaks as OpenAI's chat completions do.

The key is read from the environment and goes into one header of one request; it is in no address,
argument, message or file. What the other side writes beside its answer is not quoted, for it may
repeat what it was sent.
"""

import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from typing import IO, Any
from urllib.parse import urlsplit

from energylens.errors import SpeakerError, UsageError
from energylens.explaining.speaker import Prompt

KEY = "ENERGYLENS_API_KEY"
"""The variable of the environment that holds the key, where one is needed."""
_TRIES = 4
_WAIT = 1.0
"""Seconds before the second try; twice as many before each further one."""
_MOST_BYTES = 1 << 20
_SUCH_AS = "http://localhost:8000/v1"
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""Answers after which it may go better."""
_WHY = {
    401: f"it wants a key, or another one: set {KEY}",
    403: f"it does not allow this with the key in {KEY}",
    404: "there is nothing at this address, or no such model; most addresses end in /v1",
}


@dataclass(frozen=True)
class Endpoint:
    """`url` as far as /v1, `model` as the other side calls it."""

    url: str
    model: str
    seconds: float = 120.0
    """After which an answer is no longer waited for."""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
        except ValueError:  # tells the address, in which a key may stand
            raise UsageError(f"--endpoint is no address; one is {_SUCH_AS}") from None
        if parts.scheme not in ("http", "https") or not host:
            raise UsageError(f"--endpoint is no http or https address; one is {_SUCH_AS}")
        if parts.username is not None or parts.password is not None:
            raise UsageError(f"an address of --endpoint holds no name or key; set {KEY} instead")
        if parts.query or parts.fragment or not self.url.isascii() or not self.url.isprintable():
            raise UsageError("an address of --endpoint has no ?, # or odd characters in it")

    @property
    def name(self) -> str:
        """Which model answers."""
        return self.model

    def say(self, prompt: Prompt) -> str:
        """Its answer at temperature 0.

        Raises:
            SpeakerError: it gives none, however often it is asked.
        """
        why = ""
        for number in range(_TRIES):
            if number:
                time.sleep(_WAIT * 2 ** (number - 1))
            try:
                return self._answer(prompt)
            except _Again as error:
                why = str(error)
        raise SpeakerError(
            f"'{self.url}' gave no answer in {_TRIES} tries: {why}; what was written is kept, and "
            "the same command asks for the rest"
        )

    def _answer(self, prompt: Prompt) -> str:
        body = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": prompt.system},
                {"role": "user", "content": prompt.user},
            ],
            "max_tokens": prompt.most_tokens,
            "temperature": 0,
        }
        return self._content(self._posted(json.dumps(body).encode()))

    def _posted(self, body: bytes) -> bytes:
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body)
        request.add_unredirected_header("Content-Type", "application/json")
        if os.environ.get(KEY):
            request.add_unredirected_header("Authorization", f"Bearer {self._key()}")
        try:
            with _OPENER.open(request, timeout=self.seconds) as answer:
                return self._read(answer)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _AGAIN:
                raise _Again(f"it answers with the status {error.code}") from None
            raise SpeakerError(
                f"'{self.url}' answers with the status {error.code}: {_why(error.code)}"
            ) from None
        except TimeoutError:
            raise _Again(f"nothing whole came in {self.seconds:g} seconds") from None
        except urllib.error.URLError as error:
            raise _Again(f"it cannot be reached ({_reason(error)})") from None
        except (OSError, HTTPException) as error:
            raise _Again(f"the connection broke ({type(error).__name__})") from None

    def _read(self, answer: Any) -> bytes:
        """All of it, if it comes in time: a timeout of the socket only bounds each single wait."""
        until = time.monotonic() + self.seconds
        parts, size = [], 0
        while size <= _MOST_BYTES and (part := answer.read1(_MOST_BYTES)):
            parts.append(part)
            size += len(part)
            if time.monotonic() > until:
                raise TimeoutError
        return b"".join(parts)

    def _key(self) -> str:
        key = os.environ[KEY].strip()
        if not key.isascii() or not key.isprintable() or " " in key:
            raise UsageError(f"{KEY} holds characters that no key has; set it anew")
        return key

    def _content(self, answer: bytes) -> str:
        if len(answer) > _MOST_BYTES:
            raise _Again(f"its answer is longer than {_MOST_BYTES:,} bytes")
        try:
            found = json.loads(answer)["choices"][0]["message"]["content"]
        except (ValueError, RecursionError, LookupError, TypeError):
            raise _Again("its answer is no chat completion") from None
        if found is not None and not isinstance(found, str):
            raise _Again("its answer is no text")
        return found or ""


class _Again(Exception):  # noqa: N818 - says what to do
    """It may go better the next time."""


class _Stays(urllib.request.HTTPRedirectHandler):
    """Goes nowhere but where it was sent: another address would be handed the texts."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message,
        newurl: str,
    ) -> None:  # fmt: skip
        return None


def _why(code: int) -> str:
    if 300 <= code < 400:
        return "it sends to another address, which is not followed; give that one"
    return _WHY.get(code, "it will not take what it is asked")


def _reason(error: urllib.error.URLError) -> Any:
    return error.reason.strerror if isinstance(error.reason, OSError) else error.reason


_OPENER = urllib.request.build_opener(_Stays)
