"""One figure of a run without the rest of a report.

Nothing heavy is loaded before something is drawn: the screens import this.
"""

from energylens.db.provenance import RunInfo
from energylens.db.store import Reader
from energylens.errors import QueryError
from energylens.report.extra import need_report
from energylens.report.figure import Figure, Missing, drawn


def one_figure(
    reader: Reader, info: RunInfo, name: str, text: int | None = None
) -> tuple[str, bytes]:
    """A figure of a report by its name, as SVG and as PNG; of `text` where it is of one text.

    Raises:
        MissingExtraError: the extra 'report' is not installed.
        QueryError: the run has nothing for it.
    """
    need_report()
    found = _made(reader, info, name, text)
    if isinstance(found, Missing):
        raise QueryError(f"there is no figure '{found.title}': {found.reason}")
    return drawn(found)


def _made(reader: Reader, info: RunInfo, name: str, text: int | None) -> Figure | Missing:
    from energylens.report.figures import energy, features, routing, specialists
    from energylens.report.figures.run import Source

    source = Source(reader, info, info.n_texts)
    if text is not None:
        return energy.landscape(source, text)
    makers = {
        "anchor_specialization": routing.specialization,
        "coactivation_clusters": features.clusters,
        "density_and_l0": features.density,
        "efas_distribution": features.efas,
        "energy_by_layer": energy.by_layer,
        "routing_circuits": routing.circuits,
        "routing_efficiency": routing.efficiency,
        "sae_performance": features.performance,
        "specialist_scores": specialists.scores,
        "specialists_by_depth": specialists.by_depth,
    }
    return makers[name](source)
