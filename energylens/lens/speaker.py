"""A Hugging Face causal language model that is asked for words."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from energylens.errors import SpeakerError
from energylens.explaining.speaker import Prompt
from energylens.lens.checkpoints import Loaded, context_length, load_checkpoint, reason_of


class LocalSpeaker:
    """Answers with the most likely tokens, in the model's own chat format where it has one."""

    def __init__(self, source: str, name: str) -> None:
        """Load a directory, a GGUF file or a model of the hub.

        Raises:
            ModelError: it cannot be found or read.
        """
        self._source, self._name = source, name
        self._loaded: Loaded = load_checkpoint(source, "float32")

    @property
    def name(self) -> str:
        """Which model answers."""
        return self._name

    def say(self, prompt: Prompt) -> str:
        """Its answer.

        Raises:
            SpeakerError: prompt and answer do not fit into its context.
        """
        ids = self._ids(prompt)
        room = context_length(self._loaded.model.config)
        if room is not None and len(ids) + prompt.most_tokens > room:
            raise SpeakerError(
                f"'{self._source}' takes {room:,} tokens at once, but a question here has "
                f"{len(ids):,} and its answer up to {prompt.most_tokens:,}: give a model of a "
                "longer context"
            )
        with torch.inference_mode():
            made: Tensor = self._loaded.model.generate(
                ids[None],
                attention_mask=torch.ones_like(ids)[None],
                max_new_tokens=prompt.most_tokens,
                do_sample=False,
                pad_token_id=self._padding,
            )
        return str(self._tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True))

    @property
    def _tokenizer(self) -> Any:
        return self._loaded.tokenizer

    @cached_property
    def _padding(self) -> int:
        """Never seen, for questions are asked one at a time; without it there is a warning."""
        known = (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id)
        return next((number for number in known if number is not None), 0)

    def _ids(self, prompt: Prompt) -> Tensor:
        if self._tokenizer.chat_template is None:
            text = f"{prompt.system}\n\n{prompt.user}\n\nAnswer: "
            return torch.tensor(self._tokenizer.encode(text))
        said = [
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": prompt.user},
        ]
        try:
            text = self._tokenizer.apply_chat_template(
                said, tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # a template is a program, which raises what it likes
            raise SpeakerError(
                f"the chat template of '{self._source}' fails ({reason_of(error)}); give a model "
                "that takes a system's and a user's words"
            ) from error
        return torch.tensor(self._tokenizer.encode(text, add_special_tokens=False))
