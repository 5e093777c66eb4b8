"""Which simulation stands for each p, q and interval that the schema, a named query or a typed
function gives."""

import re
from collections.abc import Iterator

import duckdb

from energylens.db.schema import TABLES
from energylens.db.views import schema_statements
from energylens.queries.catalog import named_queries

_NAMED = re.compile(r"^(p|q|low|high|error)$|^(p|q)_|_(p|q|low|high|error)$")
SIMULATED = frozenset(
    {
        "feature_patterns.p", "feature_patterns.q", "feature_patterns.balanced_accuracy",
        "specialists.p", "specialists.q", "efas.p", "efas.q", "efas.p_efas", "efas.q_efas",
        "efas.within", "efas.p_flip", "efas.p_familywise", "efas.p_adjusted", "efas.p_even",
        "efas.p_odd", "efas_categories.p", "efas_categories.q", "coactivation.p",
        "coactivation.q", "routing_layers.energy_p", "routing_metrics", "routing_information.p",
        "routing_circuits.p", "routing_circuits.q", "routing_circuits.energy_drop_error",
        "routing_features.p", "routing_features.q", "energy_permutations.total_variation",
        "energy_permutations.moved", "energy_permutations.energy_change", "anchor_ablations.own",
        "anchor_ablations.others", "anchor_ablations.difference", "effect_agreements.slope",
        "effect_agreements.sign_agreement", "effect_agreements.relative_error",
        "efas_split.p_reported", "explanation_scores.score", "repairs.change",
    }
)  # fmt: skip
"""What the tallies of the simulations are called."""
NO_TEST = {
    "effect_agreements.relative_error": "an error of predictions, no error bar",
    "activation_samples.interval_low": "the bound of a bin",
    "activation_samples.interval_high": "the bound of a bin",
    "efas_histogram.low": "the bound of a bin",
    "efas_histogram.high": "the bound of a bin",
    "feature_histogram.bin_low": "the bound of a bin",
    "feature_histogram.bin_high": "the bound of a bin",
}
"""Columns that are named like a test and are none."""
PASSED_ON = {
    "anchor_effects": "anchor_ablations", "anchor_features": "routing_features",
    "anchor_specialization": "routing_information", "coactivation_partners": "coactivation",
    "coactive_pairs": "coactivation", "efas_ranking": "efas", "energy_features": "efas",
    "drop_features": "efas",
    "feature_anchors": "routing_features", "feature_efas": "efas", "mapped_features": "efas",
    "find_specialists": "specialists", "ranked_specialists": "specialists",
    "routing_health": "routing_layers", "routing_paths": "routing_circuits",
    "scored_explanations": "explanation_scores",
    "specialist_matrix": "specialists",
}  # fmt: skip
"""Named queries that show a table's columns under their own names."""
RENAMED = {
    "efas_by_category.its_q": "efas_categories.q",
    "efas_split.p_selected": "efas.p_even",
    "efas_split.p_reported": "efas_split.p_reported",
    "routing_report.low": "routing_metrics.value_low",
    "routing_report.high": "routing_metrics.value_high",
}


def is_test(name: str) -> bool:
    """Whether a column is named like a p, a q or a bound."""
    return _NAMED.search(name) is not None


def columns_of_schema() -> Iterator[str]:
    """table.column of everything that is named so in the schema."""
    for table in TABLES.values():
        yield from (f"{table.name}.{c.name}" for c in table.columns if is_test(c.name))


def columns_of_queries() -> Iterator[str]:
    """query.column of everything that is named so in what a named query gives."""
    con = duckdb.connect()
    for statement in (*schema_statements(), *(q.sql for q in named_queries().values())):
        con.execute(statement)
    for query in named_queries().values():
        given = ", ".join(
            f"{p.name} := CAST(NULL AS {p.type})" for p in query.parameters if p.default is None
        )
        for name, *_ in con.execute(f"DESCRIBE FROM {query.name}({given})").fetchall():
            if is_test(name):
                yield f"{query.name}.{name}"


def simulated_as(column: str) -> str | None:
    """The tally that stands for a column of the schema; None for one that is no test."""
    if column in NO_TEST:
        return None
    bare = re.sub(r"_(low|high)$", "", column)
    return "routing_metrics" if bare == "routing_metrics.value" else bare


def of_table(column: str) -> str | None:
    """The column of the schema that a query's column shows; None where it shows none."""
    query, name = column.split(".")
    if column in RENAMED:
        return RENAMED[column]
    return f"{PASSED_ON[query]}.{name}" if query in PASSED_ON else None
