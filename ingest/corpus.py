"""A corpus as contexts: the same numbers for the same texts, whoever reads them.

Texts are read twice. The first pass counts and hashes; from the counts follow `context_id` and
shard of every context. The second tokenizes again only what the wanted shards need, so memory
holds one group of texts and a few numbers a text.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from energylens.errors import TextsError
from energylens.ingest.texts import Text, iter_texts
from energylens.lens.energy import NO_NEXT
from energylens.lens.pieces import Piece, pieces

SHARD_TOKENS = 65_536
"""A shard is closed with the context that brings it to this many tokens."""

_GROUP = 64
"""Texts tokenized at once."""


@dataclass(frozen=True)
class TokenizedText:
    """One text with its tokens."""

    text_id: int
    text: Text
    ids: list[int]
    offsets: list[tuple[int, int]]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.text.encode()).hexdigest()


@dataclass(frozen=True)
class Context:
    """At most n_ctx tokens of one text, as the model reads them."""

    context_id: int
    text: TokenizedText
    part: int
    """0 for the first context of its text."""
    ids: list[int]
    """Vocabulary ids, BOS first where the run prepends it."""
    next_ids: list[int]
    """The id after each token, that of the text's next context for the last; NO_NEXT at its end."""
    pieces: list[Piece | None]
    """None for a BOS the run prepended."""


@dataclass(frozen=True)
class CorpusPlan:
    """What the first pass found."""

    n_texts: int
    n_contexts: int
    n_tokens: int
    """All contexts together, BOS counted."""
    n_empty: int
    """Texts without a token; they have a row in `texts` and no context."""
    sha256: str
    first_context: np.ndarray
    """int64 [n_texts + 1]: the first context of each text, then n_contexts."""
    shard_starts: np.ndarray
    """int64 [n_shards + 1]: the first context of each shard, then n_contexts."""
    vocab_counts: np.ndarray
    """int64: how often each vocabulary id occurs in the texts; a prepended BOS is not counted."""

    @property
    def n_shards(self) -> int:
        return len(self.shard_starts) - 1

    def first_of(self, text: TokenizedText) -> int:
        """The context_id of a text's first context."""
        return int(self.first_context[text.text_id])

    def shards_of_text(self, text_id: int) -> range:
        """The shards that hold the text's row and contexts."""
        first, end = (int(c) for c in self.first_context[text_id : text_id + 2])
        return range(self.shard_of(first), self.shard_of(max(first, end - 1)) + 1)

    def shard_of(self, context_id: int) -> int:
        """The shard a context lies in; the last one for what lies behind all contexts."""
        found = int(np.searchsorted(self.shard_starts, context_id, side="right")) - 1
        return min(found, self.n_shards - 1)


class Corpus:
    """Texts, a tokenizer and a context length."""

    def __init__(
        self,
        spec: str,
        tokenizer: Any,
        n_ctx: int,
        bos_id: int | None,
        n_ids: int | None = None,
    ) -> None:
        """`bos_id` begins every context; None prepends nothing. `n_ids` is how many vocabulary ids
        the model knows; None checks none."""
        self.n_ids = n_ids
        self.spec, self.tokenizer, self.n_ctx, self.bos_id = spec, tokenizer, n_ctx, bos_id
        self.room = n_ctx - (bos_id is not None)
        if self.room < 1:
            raise TextsError(f"contexts of {n_ctx} tokens leave no room for text beside BOS")

    def plan(self) -> CorpusPlan:
        """Read every text once: counts, hash, contexts and shards.

        Raises:
            TextsError: the texts cannot be read, or hold no token at all.
        """
        digest = hashlib.sha256()
        n_tokens_of_text: list[int] = []
        vocab_counts = np.zeros(self._largest_id() + 1, dtype=np.int64)
        for group in _grouped(iter_texts(self.spec)):
            for text, ids in zip(group, self._encode(group)["input_ids"], strict=True):
                for part in (text.text, text.category, text.source):
                    data = (part or "").encode()
                    digest.update(len(data).to_bytes(8, "little") + data)
                n_tokens_of_text.append(len(ids))
                np.add.at(vocab_counts, ids, 1)
        counts = np.array(n_tokens_of_text, dtype=np.int64)
        contexts = -(-counts // self.room)
        if contexts.sum() == 0:
            raise TextsError(f"the texts of '{self.spec}' hold no token; nothing to ingest")
        first = np.concatenate([[0], np.cumsum(contexts)])
        sizes = np.concatenate([self._context_sizes(int(n)) for n in counts])
        return CorpusPlan(
            n_texts=len(counts),
            n_contexts=int(first[-1]),
            n_tokens=int(sizes.sum()),
            n_empty=int((counts == 0).sum()),
            sha256=digest.hexdigest(),
            first_context=first,
            shard_starts=_shard_starts(sizes),
            vocab_counts=vocab_counts,
        )

    def texts(self, wanted: Callable[[int], bool]) -> Iterator[TokenizedText]:
        """The tokenized texts whose text_id is wanted, in order."""
        chosen = ((i, text) for i, text in enumerate(iter_texts(self.spec)) if wanted(i))
        while group := list(islice(chosen, _GROUP)):
            encoded = self._encode([text for _, text in group])
            for (text_id, text), ids, offsets in zip(
                group, encoded["input_ids"], encoded["offset_mapping"], strict=True
            ):
                yield TokenizedText(text_id, text, ids, offsets)

    def tokenize(self, text_id: int, text: Text) -> TokenizedText:
        """One text alone."""
        encoded = self._encode([text])
        return TokenizedText(text_id, text, encoded["input_ids"][0], encoded["offset_mapping"][0])

    def contexts(self, text: TokenizedText, first_context: int) -> Iterator[Context]:
        """The contexts of one text, in order, numbered from `first_context`."""
        tokens = self.tokenizer.convert_ids_to_tokens(text.ids)
        found: list[Piece | None] = [*pieces(text.text.text, tokens, text.offsets)]
        bos: list[int] = [] if self.bos_id is None else [self.bos_id]
        no_piece: list[Piece | None] = [None] * len(bos)
        for part, start in enumerate(range(0, len(text.ids), self.room)):
            ids = bos + text.ids[start : start + self.room]
            after = text.ids[start + self.room : start + self.room + 1] or [NO_NEXT]
            yield Context(
                context_id=first_context + part,
                text=text,
                part=part,
                ids=ids,
                next_ids=ids[1:] + after,
                pieces=no_piece + found[start : start + self.room],
            )

    def _context_sizes(self, n_tokens: int) -> np.ndarray:
        whole, rest = divmod(n_tokens, self.room)
        sizes = [self.room] * whole + ([rest] if rest else [])
        return np.array(sizes, dtype=np.int64) + (self.bos_id is not None)

    def _largest_id(self) -> int:
        """Ids may have gaps, so that their count says too little."""
        return max(self.tokenizer.get_vocab().values())

    def _encode(self, group: list[Text]) -> dict[str, list[list]]:
        texts = [text.text for text in group]
        encodings = self.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        for text, encoding in zip(texts, encodings, strict=True):
            if self.n_ids is not None and max(encoding.ids, default=0) >= self.n_ids:
                raise TextsError(self._beyond(text, encoding))
        return {
            "input_ids": [encoding.ids for encoding in encodings],
            "offset_mapping": [encoding.offsets for encoding in encodings],
        }

    def _beyond(self, text: str, encoding: Any) -> str:
        at = next(i for i, number in enumerate(encoding.ids) if number >= self.n_ids)
        start, end = encoding.offsets[at]
        around = text[max(0, start - 20) : end + 20]
        return (
            f"the token {encoding.tokens[at]!r} in the text {around!r} has the id "
            f"{encoding.ids[at]:,}, but the model knows {self.n_ids:,} tokens and its tokenizer "
            f"{len(self.tokenizer):,}: tokenizer and model do not belong together, or the model's "
            "embedding was not resized when tokens were added"
        )


def _shard_starts(sizes: np.ndarray) -> np.ndarray:
    """Close a shard with the context that fills it."""
    before = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    number = before // SHARD_TOKENS
    starts = np.flatnonzero(np.concatenate([[True], number[1:] != number[:-1]]))
    return np.concatenate([starts, [len(sizes)]])


def _grouped(texts: Iterator[Text]) -> Iterator[list[Text]]:
    while group := list(islice(texts, _GROUP)):
        yield group
