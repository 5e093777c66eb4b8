"""How entries of a model's vocabulary read."""

from energylens.lens.models import LanguageModel
from energylens.lens.pieces import vocabulary_labels


class Labels:
    """By vocabulary id; an id that the tokenizer does not know reads as its number."""

    def __init__(self, model: LanguageModel) -> None:
        self._known = vocabulary_labels(model.tokenizer)

    def __getitem__(self, vocab_id: int) -> str:
        return self._known[vocab_id] if vocab_id < len(self._known) else f"#{vocab_id}"
