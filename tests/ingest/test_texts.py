"""Texts from every accepted place, and what is said where they cannot be read."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from energylens.errors import TextsError, UsageError
from energylens.ingest.texts import Text, iter_texts

ROWS = [
    {"text": 'one\ntwo, "three"', "category": "a", "source": "s"},
    {"text": "", "category": "b", "source": "t"},
    {"text": "NUL \0 and emoji 🐕", "category": "a", "source": ""},
]
EXPECTED = [Text(str(row["text"]), row["category"], row["source"] or None) for row in ROWS]


def test_jsonl(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n", encoding="utf-8")
    assert list(iter_texts(str(file))) == EXPECTED


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "x.parquet")
    assert list(iter_texts(str(tmp_path / "x.parquet"))) == EXPECTED


def test_csv(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text('text,category\n"a ""quoted"", text",k\nplain,\n', encoding="utf-8")
    assert list(iter_texts(str(file))) == [
        Text('a "quoted", text', "k", None),
        Text("plain", None, None),
    ]


def test_folders_are_categories(tmp_path: Path) -> None:
    for category, name, text in (
        ("b", "1.txt", "x"),
        ("a", "2.txt", "y"),
        ("a", "1.txt", "\ufeffz"),
    ):
        (tmp_path / category).mkdir(exist_ok=True)
        (tmp_path / category / name).write_text(text, encoding="utf-8")
    (tmp_path / "loose.txt").write_text("w")
    found = list(iter_texts(str(tmp_path)))
    assert [(t.category, t.text) for t in found] == [
        ("a", "z"),
        ("a", "y"),
        ("b", "x"),
        (None, "w"),
    ]


def test_a_file_of_rows_names_the_category_they_lack(tmp_path: Path) -> None:
    (tmp_path / "math.jsonl").write_text('{"text": "1+1"}\n{"text": "x", "category": "other"}')
    assert [t.category for t in iter_texts(str(tmp_path))] == ["math", "other"]


def test_a_megabyte_on_one_line(tmp_path: Path) -> None:
    long = "abc " * 300_000
    (tmp_path / "x.csv").write_text(f"text\n{long}\n")
    (tmp_path / "y.jsonl").write_text(json.dumps({"text": long}))
    assert [len(t.text) for t in iter_texts(str(tmp_path))] == [1_200_000, 1_200_000]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", b"caf\xe9", r"x\.txt is not UTF-8 \(byte 0xe9 at offset 3\)"),
        ("x.jsonl", b'{"text": "ok"}\n{"text": "\xff"}', "line 2, is not UTF-8"),
        ("x.jsonl", b'{"text": "ok"}\n{text}', "line 2, is not JSON"),
        ("x.jsonl", b"[1]", "is not a JSON object"),
        ("x.jsonl", b'{"body": "x"}', r"has no 'text' \(its columns: body\)"),
        ("x.csv", b"body\nx\n", "has no 'text'"),
        ("x.csv", b"text\n\xff\n", "is not UTF-8"),
        ("x.parquet", b"not parquet", "as Parquet"),
        ("x.docx", b"", "is none of"),
    ],
)
def test_what_cannot_be_read_says_where(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TextsError, match=message):
        list(iter_texts(str(tmp_path / name)))


def test_missing_and_empty_places(tmp_path: Path) -> None:
    with pytest.raises(TextsError, match="no texts at"):
        list(iter_texts(str(tmp_path / "nowhere")))
    with pytest.raises(TextsError, match=r"holds no \.txt"):
        list(iter_texts(str(tmp_path)))
    with pytest.raises(UsageError, match="there are: builtin:categories"):
        list(iter_texts("builtin:nothing"))


def test_the_bundled_texts_are_what_they_claim() -> None:
    texts = list(iter_texts("builtin:categories"))
    by_category: dict[str | None, list[str]] = {}
    for text in texts:
        by_category.setdefault(text.category, []).append(text.text)
    assert len(texts) >= 140
    assert set(by_category) == {
        "python", "urls", "math", "non_english", "social", "formal", "conversational",
    }  # fmt: skip
    assert min(map(len, by_category.values())) >= 20
    assert len({text.text for text in texts}) == len(texts)
    for sources in ("def ", "class ", "import "):
        assert any(sources in text for text in by_category["python"])
    scripts = {
        script
        for text in by_category["non_english"]
        for script, (low, high) in {
            "latin": (0x41, 0x24F), "greek": (0x370, 0x3FF), "cyrillic": (0x400, 0x4FF),
            "hebrew": (0x590, 0x5FF), "arabic": (0x600, 0x6FF), "devanagari": (0x900, 0x97F),
            "thai": (0xE00, 0xE7F), "han": (0x4E00, 0x9FFF), "hangul": (0xAC00, 0xD7AF),
        }.items()
        if any(low <= ord(character) <= high for character in text)
    }  # fmt: skip
    assert len(scripts) >= 8
    assert sum(any(ord(c) > 0x1F000 for c in text) for text in by_category["social"]) >= 10
    lines = [text.count("\n") + 1 for text in (t.text for t in texts)]
    assert min(lines) == 1 and max(lines) >= 10


@pytest.mark.parametrize("name", ["x.txt", "x.jsonl", "x.csv"])
def test_a_file_one_may_not_read_is_named(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_text('{"text": "x"}')

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(TextsError, match=rf"cannot read '.*{name}': Permission denied"):
        list(iter_texts(str(tmp_path / name)))
