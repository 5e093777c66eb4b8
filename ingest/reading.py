"""The texts of a run, shard after shard, with one pass over what they are read from."""

from collections.abc import Iterator
from itertools import islice

from energylens.ingest.corpus import Context, Corpus, CorpusPlan, TokenizedText
from energylens.ingest.texts import Row


class Reading:
    """Reads shards in any order. As long as their numbers grow, no text is passed over twice; one
    with a number that is gone by begins at the first text again."""

    def __init__(self, corpus: Corpus, plan: CorpusPlan) -> None:
        self._corpus, self._plan = corpus, plan
        self._rows: Iterator[tuple[int, Row]] = iter(())
        self._at = 0
        """How many rows were taken."""
        self._last: tuple[int, Row] | None = None
        """The one taken last: a text may lie in the next shard too."""

    def shard(self, number: int) -> Iterator[TokenizedText | Context]:
        """Each text whose row lies in the shard, and the contexts of the shard, in order.

        Raises:
            TextsError: a text cannot be read.
        """
        plan = self._plan
        for text in self._corpus.tokenized(self._taken(plan.texts_of(number))):
            if plan.shards_of_text(text.text_id)[0] == number:
                yield text
            for context in self._corpus.contexts(text, plan.first_of(text)):
                if plan.shard_of(context.context_id) == number:
                    yield context

    def _taken(self, ids: range) -> Iterator[tuple[int, Row]]:
        if ids.start < self._at - 1 or self._last is None:
            self._rows, self._at = self._corpus.rows(), 0
        elif ids.start == self._at - 1:
            yield self._last
        for text_id, row in islice(self._rows, max(0, ids.stop - self._at)):
            self._at, self._last = text_id + 1, (text_id, row)
            if text_id >= ids.start:
                yield text_id, row
