"""A local model's answers are its most likely tokens, in its own chat format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from energylens.errors import ModelError, SpeakerError
from energylens.explaining.speaker import Prompt
from energylens.lens.checkpoints import load_checkpoint
from energylens.lens.speaker import LocalSpeaker
from tests.conftest import make_llama, make_tokenizer

CHAT = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} . {% endfor %}"


def greedy(source: Path, text: str, n: int) -> str:
    """One token after another, without a cache."""
    loaded = load_checkpoint(str(source), "float32")
    ids = loaded.tokenizer.encode(text)
    first = len(ids)
    for _ in range(n):
        with torch.no_grad():
            ids.append(int(loaded.model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == loaded.model.config.eos_token_id:
            break
    return loaded.tokenizer.decode(ids[first:], skip_special_tokens=True)


@pytest.fixture
def source(save_model: Callable[..., Path]) -> Path:
    return save_model(roomy())


def roomy() -> Any:
    """A model of a context in which questions fit."""
    model = make_llama()
    model.config.max_position_embeddings = 256
    return model


def with_chat(template: str) -> PreTrainedTokenizerFast:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def test_it_writes_what_is_most_likely(source: Path) -> None:
    said = LocalSpeaker(str(source), "x").say(Prompt("the cat", "sat on", 6))
    assert said == greedy(source, "the cat\n\nsat on\n\nAnswer: ", 6) != ""


def test_it_is_asked_in_its_own_chat_format(save_model: Callable[..., Path]) -> None:
    source = save_model(roomy(), with_chat(CHAT))
    said = LocalSpeaker(str(source), "x").say(Prompt("the cat", "sat on", 6))
    assert said == greedy(source, "system the cat . user sat on . ", 6)
    assert said != LocalSpeaker(str(source), "x").say(Prompt("a dog", "barks", 6))


def test_a_question_that_does_not_fit_is_told_with_its_length(llama_dir: Path) -> None:
    speaker = LocalSpeaker(str(llama_dir), "small one")
    with pytest.raises(SpeakerError, match=r"takes \d+ tokens at once, but a question here has"):
        speaker.say(Prompt("the cat", "sat " * 5000, 6))
    assert speaker.name == "small one"


def test_a_template_that_fails_is_told(save_model: Callable[..., Path]) -> None:
    refuses = with_chat("{{ raise_exception('no system here') }}")
    source = save_model(make_llama(), refuses)
    with pytest.raises(SpeakerError, match=r"chat template .* fails .*no system here"):
        LocalSpeaker(str(source), "x").say(Prompt("a", "b", 6))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        LocalSpeaker(str(tmp_path), "x")
