"""Each token's piece of the text, byte for byte, from a tokenizer's offsets.

The pieces of a text joined together are the text's UTF-8 bytes. A token that holds a part of a
character (byte-level BPE, byte fallback) gets its own bytes, so `decode(id)` is never asked.
"""

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

_BYTE_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class Piece:
    """What one token stands for in its text."""

    data: bytes
    """The piece, byte for byte; may be part of a character, or empty."""
    char_start: int
    char_end: int
    """One past the last character the piece touches."""

    @property
    def label(self) -> str:
        """The piece as a string; bytes that are no UTF-8 alone are written \\xNN."""
        return self.data.decode("utf-8", errors="backslashreplace")


def pieces(text: str, tokens: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[Piece]:
    """The pieces of a text's tokens.

    `tokens` are the vocabulary's strings, `offsets` their character spans as a fast tokenizer
    reports them. Characters no span covers (trimmed spaces) go to the token after them, or to the
    last token.
    """
    found: list[Piece] = []
    covered = 0
    for first, last in _groups(offsets):
        start = min(covered, offsets[first][0])
        end = max(covered, max(offset[1] for offset in offsets[first:last]))
        if last == len(tokens):
            end = len(text)
        data = text[covered:end].encode("utf-8")
        if last - first == 1:
            found.append(Piece(data, covered, end))
        else:
            found += [
                Piece(part, min(start, covered), end) for part in _split(data, tokens[first:last])
            ]
        covered = end
    return found


def spelled_out(tokenizer: Any, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """The text that ids stand for and the characters each of them touches; bytes that are no
    UTF-8, as where a text was cut within a character, become replacement characters."""
    added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}
    is_byte_level = "ByteLevel" in repr(tokenizer.backend_tokenizer.decoder)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    text: list[str] = []
    offsets: list[tuple[int, int]] = []
    end = 0
    for number, token in zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True):
        data = added[number].encode() if number in added else _bytes_of(token or "", is_byte_level)
        text.append(decoder.decode(data))
        start, end = end, end + len(text[-1])
        is_amid = bool(decoder.getstate()[0])
        offsets.append((start, end + is_amid))
    return "".join([*text, decoder.decode(b"", final=True)]), offsets


def _bytes_of(token: str, is_byte_level: bool) -> bytes:
    if is_byte_level or _BYTE_FALLBACK.fullmatch(token):
        return _spelled(token)
    return token.replace("▁", " ").encode()


TOKEN_CLASSES = ("space", "word", "word part", "number", "punctuation", "other")


def token_class(label: str) -> str:
    """What kind of token a label is, one of TOKEN_CLASSES; `word` begins with a space or stands
    alone in capitals, `word part` goes on from the token before, `other` is mixed or part of a
    character."""
    core = label.strip()
    if not core:
        return "space"
    if core.isalpha():
        return "word" if label[0].isspace() or label[0].isupper() else "word part"
    if core.replace(".", "").replace(",", "").isdigit():
        return "number"
    if not any(c.isalnum() for c in core) and "\\x" not in core:
        return "punctuation"
    return "other"


def _groups(offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges of tokens whose spans overlap: they share a character."""
    groups: list[tuple[int, int]] = []
    end = 0
    for index, (start, stop) in enumerate(offsets):
        if groups and start < end:
            groups[-1] = (groups[-1][0], index + 1)
        else:
            groups.append((index, index + 1))
        end = max(end, stop)
    return groups


def _split(data: bytes, tokens: Sequence[str]) -> list[bytes]:
    """Share out the bytes of overlapping tokens by what each token's string spells."""
    parts = [_spelled(token) for token in tokens]
    if b"".join(parts) == data:
        return parts
    joined = b"".join(parts)
    if data.endswith(joined):  # a space the tokenizer trimmed stands before the first of them
        return [data[: len(data) - len(joined)] + parts[0], *parts[1:]]
    return [data, *(b"" for _ in tokens[1:])]


def _spelled(token: str) -> bytes:
    fallback = _BYTE_FALLBACK.fullmatch(token)
    if fallback:
        return bytes([int(fallback.group(1), 16)])
    table = _byte_level_alphabet()
    if all(character in table for character in token):
        return bytes(table[character] for character in token)
    return token.replace("▁", " ").encode("utf-8")


@cache
def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes (Radford et al. 2019), inverted."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(0x100 + index): byte for index, byte in enumerate(others)})
    return table


def special_ids(tokenizer: Any) -> list[int]:
    """Ids of tokens that are no text: those with a role (BOS, EOS, padding), and those marked
    special among the added ones, as chat markers are."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    marked = {number for number, token in added.items() if token.special}
    return sorted(marked | set(tokenizer.all_special_ids))


def vocabulary_labels(tokenizer: Any) -> list[str]:
    """How every entry of a fast tokenizer's vocabulary reads; empty for one that is missing."""
    is_byte_level = "ByteLevel" in repr(tokenizer.backend_tokenizer.decoder)
    tokens: list[str | None] = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return ["" if t is None else vocabulary_label(t, is_byte_level) for t in tokens]


def vocabulary_label(token: str, is_byte_level: bool) -> str:
    """How an entry of the vocabulary reads when it stands in no text."""
    return _bytes_of(token, is_byte_level).decode("utf-8", errors="backslashreplace")
