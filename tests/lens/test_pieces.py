"""Pieces of tokens: joined together they are the text, byte for byte."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from energylens.lens.pieces import TOKEN_CLASSES, pieces, token_class, vocabulary_label
from tests.conftest import SHARED, make_tokenizer

TEXTS = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from("🐕👩‍👩‍👧 \t\n\r\0éß漢字עברית▁Ġ<0x0A>"),
    ),
    max_size=60,
)


def tokenizers() -> list[Any]:
    found: list[Any] = [pytest.param(make_tokenizer().backend_tokenizer, id="byte level, own")]
    for name in ("gpt2-tokenizer", "stories260K-hf"):
        folder = SHARED / "models" / name
        if folder.is_dir():
            loaded = AutoTokenizer.from_pretrained(folder)
            found.append(pytest.param(loaded.backend_tokenizer, id=name))
    return found


@pytest.mark.parametrize("tokenizer", tokenizers())
@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_pieces_spell_the_text(tokenizer: Tokenizer, text: str) -> None:
    encoded = tokenizer.encode(text, add_special_tokens=False)
    found = pieces(text, encoded.tokens, encoded.offsets)
    assert len(found) == len(encoded.tokens)
    if found:
        assert b"".join(piece.data for piece in found) == text.encode("utf-8")
        assert found[0].char_start == 0 and found[-1].char_end == len(text)
    for piece in found:
        covered = text[piece.char_start : piece.char_end].encode("utf-8")
        assert piece.data in covered


def test_a_character_split_over_tokens_keeps_each_tokens_bytes() -> None:
    tokenizer = make_tokenizer().backend_tokenizer
    text = "a漢b"
    encoded = tokenizer.encode(text, add_special_tokens=False)
    found = pieces(text, encoded.tokens, encoded.offsets)
    inner = [piece for piece in found if piece.data not in (b"a", b"b")]
    assert len(inner) > 1, "the test tokenizer has no token for this character"
    assert b"".join(piece.data for piece in inner) == "漢".encode()
    assert all(piece.label.startswith("\\x") for piece in inner)
    assert {(piece.char_start, piece.char_end) for piece in inner} == {(1, 2)}


def test_trimmed_spaces_go_to_the_next_token() -> None:
    found = pieces("a  b ", ["a", "b"], [(0, 1), (3, 4)])
    assert [piece.data for piece in found] == [b"a", b"  b "]


@pytest.mark.parametrize(
    ("token", "byte_level", "expected"),
    [("Ġthe", True, " the"), ("Ċ", True, "\n"), ("▁the", False, " the"), ("<0x0A>", False, "\n")],
)
def test_vocabulary_entries_read_as_text(token: str, byte_level: bool, expected: str) -> None:
    assert vocabulary_label(token, byte_level) == expected


def test_shared_folder_is_where_the_tests_look() -> None:
    assert Path(__file__).resolve().parents[3] / "shared" == SHARED


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        (" the", "word"), ("The", "word"), ("ing", "word part"), (" ", "space"), ("\n\n", "space"),
        ("12", "number"), (" 3.5", "number"), (",", "punctuation"), (' "', "punctuation"),
        ("a1", "other"), ("\\xf0\\x9f", "other"), (" б", "word"), ("", "space"),
    ],
)  # fmt: skip
def test_a_token_has_a_class(label: str, kind: str) -> None:
    assert token_class(label) == kind
    assert kind in TOKEN_CLASSES
