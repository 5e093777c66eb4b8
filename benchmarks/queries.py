"""Queries over 58 million codes of 24,576 features: one feature, co-activation, statistics.

Medians of seven after one warm-up. Writes `benchmarks/results/queries.json`.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.make_store import RUN, SAE, make_store
from energylens.db.store import Store
from energylens.queries.catalog import open_catalog
from energylens.queries.coactivation import coactive_pair
from energylens.queries.features import coactive_features

N_TOKENS, D_SAE, L0 = 1_000_000, 24_576, 60.0


def median_ms(work: Callable[[int], object], rounds: int = 7) -> float:
    """Milliseconds of `work(round)`, the median; the first round is not counted."""
    times = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        work(number)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times[1:])


def measure(store: Store, typical: list[int]) -> dict[str, float]:
    """Milliseconds of each query; `typical` are features of median frequency."""
    con = store.cursor()
    names = {"run": RUN, "sae": SAE}

    def one_feature(number: int) -> None:
        con.sql(
            "SELECT token_index, activation FROM feature_codes "
            "WHERE run_id = $run AND sae_id = $sae AND feature_id = $feature",
            params={**names, "feature": typical[number]},
        ).to_arrow_table()

    def statistics_of_all(_: int) -> None:
        con.sql(
            "SELECT feature_id, count(*), max(activation), sum(activation) FROM feature_codes "
            "WHERE run_id = $run AND sae_id = $sae GROUP BY feature_id",
            params=names,
        ).to_arrow_table()

    return {
        "one_feature_ms": median_ms(one_feature),
        "coactivation_of_one_ms": median_ms(
            lambda number: coactive_features(store, RUN, SAE, typical[number])
        ),
        "coactivation_of_a_pair_ms": median_ms(
            lambda number: coactive_pair(store, RUN, SAE, typical[number], typical[number + 1])
        ),
        "statistics_of_all_ms": median_ms(statistics_of_all),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "large.lens"
        began = time.perf_counter()
        make_store(path, N_TOKENS, D_SAE, L0)
        made = time.perf_counter() - began
        file = next(path.rglob("feature_codes/*.parquet"))
        with open_catalog(path) as store:
            con = store.cursor()
            (n_codes,) = con.execute("SELECT count(*) FROM feature_codes").fetchall()[0]
            typical = [
                row[0]
                for row in con.execute(
                    "SELECT feature_id FROM features ORDER BY abs(n_active - "
                    "(SELECT median(n_active) FROM features)), feature_id LIMIT 9"
                ).fetchall()
            ]
            found = {
                "codes": n_codes,
                "bytes_per_code": file.stat().st_size / n_codes,
                "made_s": made,
                **measure(store, typical),
            }
    out = Path(__file__).parent / "results/queries.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
