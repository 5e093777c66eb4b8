"""The features of an SAE behind one prediction as an attribution graph.

Its links are gradient times activation: what a feature at a token does to the logit (less the mean
logit), to first order and through all that follows. These are total effects, not the direct ones of
circuit-tracer's graphs, and so every link ends in the logit; what the SAE leaves out at a token has
one too. Tokens are there as nodes, without links.
"""

import msgspec
import numpy as np
import torch

import energylens
from energylens.errors import UsageError
from energylens.ingest.exchange.attribution_graphs import Graph, Link, Node, NodeType
from energylens.ingest.on_request.attention import context_ids
from energylens.ingest.on_request.attribute import counted_tokens, metric_of, position_in
from energylens.ingest.on_request.reopen import Reopened
from energylens.lens.attribution import Attributor, Prediction
from energylens.lens.models import run_hooks
from energylens.lens.saes import Sae
from energylens.protocol import AttributionRequest

_LINKS = (
    "gradient times activation: total effects on the logit less the mean logit, to first order, "
    "through all later layers"
)


def attribution_graph(reopened: Reopened, asked: AttributionRequest, slug: str) -> Graph:
    """What `attribute` tells by gradients, feature by feature and token by token.

    Raises:
        UsageError: a feature is explained and not a prediction, the SAE is in no layer, or what is
            to be explained is not there.
    """
    if asked.other_sae_id is not None:
        raise UsageError("a graph ends in a logit; leave out --of-sae and --of-feature")
    sae = reopened.sae(asked.sae_id)
    if sae.layer < 0:
        raise UsageError(f"'{sae.sae_id}' is in no layer, which a graph's features need to be in")
    ids = context_ids(reopened, asked.context_id, asked.text or None)
    position = position_in(asked.position, len(ids))
    metric, _ = metric_of(reopened, asked, ids, position)
    assert isinstance(metric, Prediction), "no feature was asked for"
    tokens = [reopened.label(one) for one in ids]
    logit = _logit(reopened, ids, metric)
    nodes, weights = _parts(reopened, sae, ids, metric)
    links = [
        Link(node.node_id, logit.node_id, weight)
        for node, weight in zip(nodes, weights, strict=True)
    ]
    embeddings = [
        _node(f"E_{one}_{pos}", "embedding", "embedding", -1, pos, token_id=one)
        for pos, one in enumerate(ids)
    ]
    return Graph(
        slug=slug,
        scan=_scan(reopened, sae),
        prompt=asked.text or "".join(tokens),
        tokens=tokens,
        nodes=[*embeddings, *nodes, logit],
        links=links,
        supernodes=[],
        metadata=_json(_metadata(reopened, sae, slug, asked.text, tokens)),
        view=_json({"pinnedIds": [logit.node_id], "supernodes": [], "linkType": "both"}),
    )


def _parts(
    reopened: Reopened, sae: Sae, ids: list[int], metric: Prediction
) -> tuple[list[Node], list[float]]:
    """Active features and errors at each token that an ablation acts on, and their effects."""
    codes, slope, by_error = Attributor(reopened.model, sae, torch.tensor(ids), metric).parts()
    counted = counted_tokens(reopened, ids)
    effects = (codes * slope * counted[:, None]).numpy()
    errors = (by_error * counted).numpy()
    nodes, weights = [], []
    for pos, feature in np.argwhere((codes.numpy() != 0) & (counted.numpy()[:, None] > 0)).tolist():
        node_id = f"{sae.layer}_{feature}_{pos}"
        nodes.append(
            _node(node_id, "feature", "sae", sae.layer, pos, feature_id=feature,
                  activation=float(codes[pos, feature]))
        )  # fmt: skip
        weights.append(float(effects[pos, feature]))
    for pos in np.flatnonzero(counted.numpy()).tolist():
        node_id = f"err_{sae.layer}_{pos}"
        nodes.append(_node(node_id, "error", "sae reconstruction error", sae.layer, pos))
        weights.append(float(errors[pos]))
    return _ranked(nodes, weights), weights


def _ranked(nodes: list[Node], weights: list[float]) -> list[Node]:
    """Nodes with the share of all effects that each has together with those that have more, as
    circuit-tracer writes it."""
    size = np.abs(np.array(weights))
    order = np.argsort(-size, kind="stable")
    share = np.empty(len(size))
    share[order] = np.cumsum(size[order]) / max(size.sum(), np.finfo(float).tiny)
    return [
        msgspec.structs.replace(node, influence=float(one))
        for node, one in zip(nodes, share, strict=True)
    ]


def _logit(reopened: Reopened, ids: list[int], metric: Prediction) -> Node:
    batch = torch.tensor([ids])
    logits, _ = run_hooks(reopened.model, batch, torch.ones_like(batch), ())
    assert logits is not None, "the pass was not stopped early"
    prob = float(logits[0, metric.position].float().softmax(-1)[metric.vocab_id])
    layer, token = reopened.model.n_layers + 1, reopened.label(metric.vocab_id)
    return _node(
        f"{layer}_{metric.vocab_id}_{metric.position}", "logit", "logit", layer, metric.position,
        token_id=metric.vocab_id, token_prob=prob, label=f'Output "{token}" (p={prob:.3f})',
        is_target_logit=True,
    )  # fmt: skip


def _node(
    node_id: str,
    node_type: NodeType,
    feature_type: str,
    layer: int,
    pos: int,
    feature_id: int | None = None,
    token_id: int | None = None,
    activation: float | None = None,
    token_prob: float = 0.0,
    label: str = "",
    is_target_logit: bool = False,
) -> Node:
    return Node(
        node_id=node_id,
        node_type=node_type,
        feature_type=feature_type,
        layer=layer,
        pos=pos,
        feature_id=feature_id,
        token_id=token_id,
        label=label,
        influence=None,
        activation=activation,
        token_prob=token_prob,
        is_target_logit=is_target_logit,
        js_node_id=f"{node_id}-0",
        run_idx=0,
        reverse_ctx_idx=0,
        more=None,
    )


def _json(what: object) -> str:
    return msgspec.json.encode(what).decode()


def _scan(reopened: Reopened, sae: Sae) -> str:
    """The model by the name that Neuronpedia has for it, where that is known."""
    if sae.neuronpedia_id is not None:
        return sae.neuronpedia_id.partition("/")[0]
    return reopened.run.model.rstrip("/").rpartition("/")[2]


def _metadata(
    reopened: Reopened, sae: Sae, slug: str, text: str, tokens: list[str]
) -> dict[str, object]:
    own = {"sae_id": sae.sae_id, "weights_sha256": sae.weights_sha256}
    source = (sae.neuronpedia_id or "").partition("/")[2]
    details = {"neuronpedia_source_set": source.partition("-")[2]} if source else {}
    return {
        "slug": slug,
        "scan": _scan(reopened, sae),
        "transcoder_list": [],
        "prompt_tokens": tokens,
        "prompt": text or "".join(tokens),
        "schema_version": 1,
        "info": {
            "generator": {"name": "energylens attribute", "version": energylens.__version__},
            "energylens": {
                "run_id": reopened.run.run_id, "saes": {str(sae.layer): own}, "links": _LINKS,
            },
        },
        "feature_details": details,
    }  # fmt: skip
