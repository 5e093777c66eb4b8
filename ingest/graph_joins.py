"""Which SAE of which run a graph's features are of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from energylens.db.provenance import RunInfo, SaeInfo
from energylens.errors import UsageError
from energylens.ingest.exchange.attribution_graphs import Graph
from energylens.queries.names import find_run, find_sae, whole_number

_PAGE = "https://neuronpedia.org/"


class _OwnSae(msgspec.Struct, frozen=True):
    sae_id: str
    weights_sha256: str


class _Own(msgspec.Struct, frozen=True):
    """What graphs of `energylens export graph` say of where their features are from."""

    saes: dict[str, _OwnSae] = {}


class _Generator(msgspec.Struct, frozen=True):
    name: str = ""
    version: str = ""


class _Info(msgspec.Struct, frozen=True):
    transcoder_set: str | None = None
    generator: _Generator = _Generator()
    create_time_ms: float | None = None
    source_urls: list[str] = []
    energylens: _Own = _Own()


class _Details(msgspec.Struct, frozen=True):
    neuronpedia_source_set: str | None = None


class Made(msgspec.Struct, frozen=True):
    """How a graph was made, as far as its file tells."""

    info: _Info = _Info()
    feature_details: _Details = _Details()

    @property
    def source_set(self) -> str | None:
        """The dictionaries that the features are of."""
        return self.feature_details.neuronpedia_source_set or self.info.transcoder_set

    @property
    def generator(self) -> str | None:
        """What traced it."""
        made = self.info.generator
        return f"{made.name} {made.version}".strip() or None

    @property
    def created(self) -> str | None:
        """When, in UTC."""
        if self.info.create_time_ms is None:
            return None
        try:
            return datetime.fromtimestamp(self.info.create_time_ms / 1000, UTC).isoformat()
        except (ValueError, OverflowError, OSError):
            return None


Joined = dict[int, tuple[str, SaeInfo]]
"""The run and the SAE of a layer's features."""


@dataclass(frozen=True)
class Joins:
    """What graphs may be joined to: what was given, else the newest run that fits."""

    runs: Sequence[RunInfo]
    run: RunInfo | None = None
    """The run to join to; None leaves it to what the files say."""
    saes: Mapping[int, SaeInfo] = field(default_factory=dict)
    """Its SAEs by layer; none for the only one of each layer."""

    def of(self, graph: Graph, made: Made) -> Joined:
        """Where each layer of a graph is joined to; layers without a fitting SAE are left out.

        Raises:
            UsageError: a feature is not in the SAE that was given.
        """
        tops: dict[int, int] = {}
        for node in graph.nodes:
            if node.feature_id is not None and node.layer is not None:
                tops[node.layer] = max(tops.get(node.layer, 0), node.feature_id)
        if self.run is not None:
            given = dict(self.saes) or _only_ones(self.run)
            _check(graph, given, tops)
            return {layer: (self.run.run_id, given[layer]) for layer in given.keys() & tops}
        corpora = [run for run in self.runs if run.base_run is None]
        best: Joined = {}
        for run in sorted(corpora, key=lambda run: (run.created, run.run_id), reverse=True):
            found = {
                layer: (run.run_id, sae)
                for layer, top in sorted(tops.items())
                if (sae := _fitting(run, graph.scan, layer, made)) and top < sae.d_sae
            }
            if len(found) > len(best):
                best = found
        return best


def joins_given(runs: Sequence[RunInfo], run: str | None, saes: Sequence[str]) -> Joins:
    """What the options say: a run, or the beginning of its name, and `LAYER=SAE`, several times.

    Raises:
        UsageError: an option is none of these, or names what is not there.
    """
    if run is None and not saes:
        return Joins(runs)
    chosen, by_layer = find_run(runs, run), {}
    for given in saes:
        layer, equals, sae = given.partition("=")
        if not equals:
            raise UsageError(f"--sae takes LAYER=SAE, such as 3=blocks.3, not '{given}'")
        by_layer[whole_number("the layer of --sae", layer)] = find_sae(chosen, sae)
    return Joins(runs, chosen, by_layer)


def made_of(graph: Graph) -> Made:
    """How a graph was made; what its file tells in another form it does not tell."""
    try:
        return msgspec.json.decode(graph.metadata, type=Made)
    except msgspec.ValidationError:
        return Made()


def _only_ones(run: RunInfo) -> dict[int, SaeInfo]:
    """The SAEs that are the only ones of their layer."""
    layers = [sae.layer for sae in run.saes]
    return {sae.layer: sae for sae in run.saes if layers.count(sae.layer) == 1}


def _check(graph: Graph, saes: Mapping[int, SaeInfo], tops: Mapping[int, int]) -> None:
    for layer, sae in saes.items():
        if tops.get(layer, -1) >= sae.d_sae:
            raise UsageError(
                f"has the feature {tops[layer]:,} in layer {layer}, and '{sae.sae_id}' has the "
                f"features 0 to {sae.d_sae - 1:,}: the graph is of other dictionaries; name the "
                "right ones with --run and --sae, or leave both out"
            )


def _fitting(run: RunInfo, scan: str, layer: int, made: Made) -> SaeInfo | None:
    """The SAE of a run that is the graph's dictionary of a layer, as far as names can tell."""
    own = made.info.energylens.saes.get(str(layer))
    pages = f"{_PAGE}{scan}/"
    sets = {url.removeprefix(pages) for url in made.info.source_urls if url.startswith(pages)}
    sets |= {made.feature_details.neuronpedia_source_set, made.info.transcoder_set} - {None}
    is_model = run.model.rpartition("/")[2].casefold() == scan.casefold()
    for sae in run.saes:
        if own is not None and sae.weights_sha256 == own.weights_sha256:
            return sae
        if sae.neuronpedia_id in {f"{scan}/{layer}-{name}" for name in sets}:
            return sae
        if is_model and sae.layer == layer and {sae.release, sae.source} & sets:
            return sae
    return None
