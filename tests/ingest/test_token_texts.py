"""Texts that are tokens already are read as the texts they were made from."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from energylens.errors import TextsError
from energylens.ingest.corpus import Context, Corpus
from energylens.ingest.texts import iter_texts


def write(path: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def contexts(corpus: Corpus) -> list[Context]:
    plan = corpus.plan()
    return [
        context
        for text in corpus.texts(lambda _: True)
        for context in corpus.contexts(text, plan.first_of(text))
    ]


@given(texts=st.lists(st.text("ab 🐕é\n", min_size=1, max_size=40), min_size=1, max_size=6))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_tokens_give_what_their_texts_give(
    tmp_path: Path, tokenizer: Any, texts: list[str]
) -> None:
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    as_texts = contexts(Corpus(write(tmp_path / "t.parquet", text=texts), tokenizer, 8, 0))
    as_tokens = contexts(Corpus(write(tmp_path / "i.parquet", input_ids=ids), tokenizer, 8, 0))
    for one, other in zip(as_texts, as_tokens, strict=True):
        assert (one.ids, one.next_ids, one.pieces) == (other.ids, other.next_ids, other.pieces)
        assert one.text.text.text == other.text.text.text
        assert one.text.sha256 == other.text.sha256


def test_padding_is_left_out_and_bos_stands_once(tmp_path: Path, tokenizer: Any) -> None:
    ids = tokenizer.encode("The cat sat", add_special_tokens=False)
    spec = write(
        tmp_path / "x.parquet",
        input_ids=[[0, *ids, 0, 0], [0, 0, *ids, 0]],
        attention_mask=[[1] * (1 + len(ids)) + [0, 0], [0, 1] + [1] * len(ids) + [0]],
    )
    assert [c.ids for c in contexts(Corpus(spec, tokenizer, 64, 0))] == [[0, *ids], [0, *ids]]
    assert [c.ids for c in contexts(Corpus(spec, tokenizer, 64, None))] == [[0, *ids], [0, *ids]]


def test_a_character_cut_in_two_and_a_special_token(tmp_path: Path, tokenizer: Any) -> None:
    dog = tokenizer.encode("🐕", add_special_tokens=False)
    assert len(dog) > 1, "or nothing is cut"
    spec = write(tmp_path / "x.parquet", input_ids=[[*dog[1:], 0, *dog[:-1]]])
    (context,) = contexts(Corpus(spec, tokenizer, 64, None))
    special = tokenizer.convert_ids_to_tokens(0)
    assert context.ids == [*dog[1:], 0, *dog[:-1]]
    assert special in context.text.text.text
    assert [p.label for p in context.pieces if p][len(dog) - 1] == special


def test_a_text_goes_before_its_tokens(tmp_path: Path) -> None:
    spec = write(tmp_path / "x.parquet", text=["ab"], input_ids=[[1, 2]])
    assert [(t.text, t.ids) for t in iter_texts(spec)] == [("ab", None)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"input_ids": [[5, 10_000]]}, "token 2 of text number 1 has the id 10,000"),
        ({"input_ids": [[5], None]}, "row 2, has nothing in 'input_ids'"),
        ({"input_ids": [[1.5]]}, "not a list of vocabulary ids"),
        ({"input_ids": ["12"]}, "not a list of vocabulary ids"),
        ({"input_ids": [[1]], "attention_mask": [[1, 1]]}, "not as long as its 'input_ids'"),
        ({"ids": [[1]]}, r"has no 'text' \(its columns: ids\)"),
    ],
)
def test_what_cannot_be_tokens_is_said(
    tmp_path: Path, tokenizer: Any, columns: dict[str, Any], message: str
) -> None:
    corpus = Corpus(write(tmp_path / "x.parquet", **columns), tokenizer, 8, 0, n_ids=300)
    with pytest.raises(TextsError, match=message):
        corpus.plan()


def test_where_texts_are_needed_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TextsError, match="tokens in a column 'input_ids'"):
        list(iter_texts(write(tmp_path / "x.parquet", input_ids=[[1]])))
