"""Values of a store that a statement may name: runs, SAEs, categories, gradients, tokens."""

from collections.abc import Iterable
from dataclasses import dataclass

from energylens.db.store import Reader

_MOST = 1000
_MOST_TOKENS = 5000


@dataclass(frozen=True)
class Stored:
    """Something a column holds, or an argument of a query may be."""

    text: str
    note: str = ""
    """What it stands for, where its own text does not say."""
    is_number: bool = False

    def begins_with(self, letters: str) -> bool:
        """Whether its text or what it stands for does, whatever the case and the spaces before."""
        begun = letters.lower().lstrip()
        return any(said.lower().lstrip().startswith(begun) for said in (self.text, self.note))


def stored_values(store: Reader) -> dict[str, tuple[Stored, ...]]:
    """What may be written, by the name of a column or of a query's argument."""
    runs = _plain(info.run_id for info in store.infos)
    saes = _plain(sae.sae_id for info in store.infos for sae in info.saes)
    categories = _column(store, "SELECT DISTINCT category FROM texts ORDER BY 1 LIMIT $most")
    variants = _column(store, "SELECT DISTINCT variant FROM efas ORDER BY 1 LIMIT $most")
    found = dict.fromkeys(("run_id", "run", "other_run"), runs)
    found |= dict.fromkeys(("sae_id", "sae", "in_sae", "other_sae", "partner_sae"), saes)
    found |= dict.fromkeys(("category", "top_category", "in_category"), categories)
    return found | {"variant": variants, "of_variant": variants} | _tokens(store)


def _plain(texts: Iterable[str]) -> tuple[Stored, ...]:
    return tuple(map(Stored, dict.fromkeys(texts)))


def _column(store: Reader, sql: str) -> tuple[Stored, ...]:
    rows = store.cursor().execute(sql, {"most": _MOST}).fetchall()
    return tuple(Stored(str(text)) for (text,) in rows if text is not None)


def _tokens(store: Reader) -> dict[str, tuple[Stored, ...]]:
    """The commonest pieces of text, and where each first stands: an argument that is a token is a
    number that nobody knows by heart."""
    rows = (
        store.cursor()
        .execute(
            "SELECT run_id, token, min(token_index) FROM tokens WHERE NOT is_special "
            "GROUP BY ALL ORDER BY count(*) DESC, run_id, token LIMIT $most",
            {"most": _MOST_TOKENS},
        )
        .fetchall()
    )
    of_several = len(store.infos) > 1
    shown = [row for row in rows if row[1].isprintable()]
    pieces = _plain(piece for _, piece, _ in shown)
    words = _plain(word for _, piece, _ in shown if (word := piece.strip().lower()))
    places = tuple(
        Stored(str(index), f"{piece} in {run}" if of_several else piece, is_number=True)
        for run, piece, index in shown
    )
    return {"token": pieces, "words": words, "at_token": places, "token_index": places}
