"""A corpus as contexts: the same numbers for the same texts, whoever reads them.

Texts are read twice. The first pass counts and hashes; from the counts follow `context_id` and
shard of every context. The second tokenizes again only what the wanted shards need, so memory
holds one group of texts and a few numbers a text.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import Any

import numpy as np

from energylens.errors import TextsError
from energylens.ingest.texts import Row, Text, text_rows
from energylens.lens.energy import NO_NEXT
from energylens.lens.pieces import Piece, pieces, spelled_out

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

    def texts_of(self, shard: int) -> range:
        """The texts that have their row or contexts in a shard."""
        start, end = (int(context) for context in self.shard_starts[shard : shard + 2])
        first, behind = self.first_context[:-1], self.first_context[1:]
        # a text without a token lies where the next context does
        low = min(np.searchsorted(first, start), np.searchsorted(behind, start, side="right"))
        is_last = shard == self.n_shards - 1
        return range(int(low), len(first) if is_last else int(np.searchsorted(first, end)))

    def shard_of(self, context_id: int) -> int:
        """The shard a context lies in; the last one for what lies behind all contexts."""
        found = int(np.searchsorted(self.shard_starts, context_id, side="right")) - 1
        return min(found, self.n_shards - 1)


@dataclass(frozen=True)
class Survey:
    """What counting finds; contexts and shards follow from it."""

    n_tokens: np.ndarray
    """int64 [n_texts]: tokens of each text, a prepended BOS not counted."""
    vocab_counts: np.ndarray
    """As in the plan."""
    sha256: str
    """Over texts, categories, sources and ids, in order."""


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
        """Contexts and shards, from reading every text.

        Raises:
            TextsError: the texts cannot be read, or hold no token at all.
        """
        return self.arrange(self.survey())

    def survey(self) -> Survey:
        """Read every text once, and count.

        Raises:
            TextsError: the texts cannot be read, or hold no token at all.
        """
        digest = hashlib.sha256()
        lengths = array("q")
        vocab_counts = np.zeros(self.n_counted, dtype=np.int64)
        for group in _grouped(row() for row in text_rows(self.spec)):
            for text in group:
                digest.update(_digestible(text))
            ids = self._ids(group)
            lengths.extend(map(len, ids))
            found = np.fromiter(chain.from_iterable(ids), dtype=np.int64)
            if self.n_ids is not None and found.max(initial=-1) >= self.n_ids:
                list(self._tokenized(enumerate(group, len(lengths) - len(group))))  # raises
            np.add(vocab_counts, np.bincount(found, minlength=self.n_counted), out=vocab_counts)
        if not any(lengths):
            raise TextsError(f"the texts of '{self.spec}' hold no token; nothing to ingest")
        return Survey(np.array(lengths, dtype=np.int64), vocab_counts, digest.hexdigest())

    def arrange(self, survey: Survey) -> CorpusPlan:
        """Contexts and shards of texts that are counted."""
        counts = survey.n_tokens
        contexts = -(-counts // self.room)
        first = np.concatenate([[0], np.cumsum(contexts)])
        sizes = np.full(first[-1], self.room, dtype=np.int64)
        has_tokens = counts > 0
        sizes[first[1:][has_tokens] - 1] = (counts - (contexts - 1) * self.room)[has_tokens]
        sizes += self.bos_id is not None
        return CorpusPlan(
            n_texts=len(counts),
            n_contexts=int(first[-1]),
            n_tokens=int(sizes.sum()),
            n_empty=int((counts == 0).sum()),
            sha256=survey.sha256,
            first_context=first,
            shard_starts=_shard_starts(sizes),
            vocab_counts=survey.vocab_counts,
        )

    def texts(self, wanted: Callable[[int], bool]) -> Iterator[TokenizedText]:
        """The tokenized texts whose text_id is wanted, in order."""
        return self.tokenized(pair for pair in self.rows() if wanted(pair[0]))

    def rows(self) -> Iterator[tuple[int, Row]]:
        """The text_id of every text, and what reads it, in order."""
        return enumerate(text_rows(self.spec))

    def tokenized(self, rows: Iterable[tuple[int, Row]]) -> Iterator[TokenizedText]:
        """The texts of some rows, in order."""
        read = ((text_id, row()) for text_id, row in rows)
        while group := list(islice(read, _GROUP)):
            for one in self._tokenized(group):
                yield self._spelled(one)

    def tokenize(self, text_id: int, text: Text) -> TokenizedText:
        """One text alone."""
        return next(self._tokenized([(text_id, text)]))

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

    @cached_property
    def n_counted(self) -> int:
        """One more than the largest id; ids may have gaps, so that their count says too little."""
        return max(max(self.tokenizer.get_vocab().values()) + 1, self.n_ids or 0)

    def _ids(self, group: list[Text]) -> list[Sequence[int]]:
        """Without offsets, which take half the time."""
        encode = self.tokenizer.backend_tokenizer.encode_batch_fast
        texts = [text.text for text in group if text.ids is None]
        encodings = iter(encode(texts, add_special_tokens=False))
        return [
            next(encodings).ids if text.ids is None else self._without_bos(text.ids)
            for text in group
        ]

    def _tokenized(self, group: Iterable[tuple[int, Text]]) -> Iterator[TokenizedText]:
        """In order; what is tokens already gets no text and no offsets here."""
        known = list(group)
        encode = self.tokenizer.backend_tokenizer.encode_batch
        texts = [text.text for _, text in known if text.ids is None]
        encodings = iter(encode(texts, add_special_tokens=False))
        for text_id, text in known:
            if text.ids is None:
                encoding = next(encodings)
                one = TokenizedText(text_id, text, encoding.ids, encoding.offsets)
            else:
                one = TokenizedText(text_id, text, self._without_bos(text.ids), [])
            if self.n_ids is not None and max(one.ids, default=0) >= self.n_ids:
                raise TextsError(self._beyond(one, self.n_ids))
            yield one

    def _without_bos(self, ids: tuple[int, ...]) -> list[int]:
        """Tokens may begin with the BOS that every context begins with anyway."""
        return list(ids[ids[:1] == (self.bos_id,) :])

    def _spelled(self, one: TokenizedText) -> TokenizedText:
        if one.text.ids is None:
            return one
        text, offsets = spelled_out(self.tokenizer, one.ids)
        return replace(one, text=replace(one.text, text=text), offsets=offsets)

    def _beyond(self, one: TokenizedText, n_ids: int) -> str:
        at, number = next((i, n) for i, n in enumerate(one.ids) if n >= n_ids)
        if not one.offsets:  # it came as tokens
            return (
                f"token {at + 1:,} of text number {one.text_id + 1:,} has the id {number:,}, but "
                f"the model knows {n_ids:,} tokens: the tokens were made by another model's "
                "tokenizer"
            )
        token = self.tokenizer.convert_ids_to_tokens(number)
        start, end = one.offsets[at]
        return (
            f"the token {token!r} in the text {one.text.text[max(0, start - 20) : end + 20]!r} has "
            f"the id {number:,}, but the model knows {n_ids:,} tokens and its tokenizer "
            f"{len(self.tokenizer):,}: tokenizer and model do not belong together, or the model's "
            "embedding was not resized when tokens were added"
        )


def _digestible(text: Text) -> bytes:
    parts = [(part or "").encode() for part in (text.text, text.category, text.source)]
    ids = b"" if text.ids is None else np.array(text.ids, dtype="<i8").tobytes()
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts) + ids


def _shard_starts(sizes: np.ndarray) -> np.ndarray:
    """Close a shard with the context that fills it."""
    before = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    number = before // SHARD_TOKENS
    starts = np.flatnonzero(np.concatenate([[True], number[1:] != number[:-1]]))
    return np.concatenate([starts, [len(sizes)]])


def _grouped(texts: Iterator[Text]) -> Iterator[list[Text]]:
    while group := list(islice(texts, _GROUP)):
        yield group
