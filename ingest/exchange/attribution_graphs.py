"""Attribution graphs as circuit-tracer writes and Neuronpedia's page shows them: JSON in and out.

    metadata    slug, scan (the model), prompt, prompt_tokens, and how the graph was made
    qParams     what somebody set on the page: pinned nodes, supernodes
    nodes       features at tokens, errors of reconstruction, embeddings, logits
    links       what one node adds to another, directly

Nodes are named by texts that need not be distinct: circuit-tracer calls the error of layer 5 at
token 3 `0_5_3`, and so the feature 5 of layer 0 there. Links of such a name may be of either; they
are kept, and marked.
"""

import json
import math
import re
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from energylens.errors import UsageError

NodeType = Literal["embedding", "feature", "error", "logit", "other"]

_MOST_BYTES = 1 << 31
_MOST_NAME = 500
_BYTE = re.compile(r"\(byte (\d+)\)")
_NO_NUMBER = re.compile(rb"-?(?:NaN|Inf)")
_THREE = re.compile(r"(\d+)_(\d+)_(\d+)")
_ERROR = re.compile(r"(?:0|err)_(\d+)_\d+")
_EMBEDDING = re.compile(r"E_(\d+)_\d+")
_TOP = (1 << 63) - 1

Number = Annotated[int, msgspec.Meta(ge=-_TOP - 1, le=_TOP)]
Place = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]


class Link(msgspec.Struct, frozen=True, gc=False):
    """What one node adds to another."""

    source: str
    target: str
    weight: float


class _FileNode(msgspec.Struct, frozen=True, gc=False):
    """A node as a file has it."""

    node_id: str
    feature_type: str
    ctx_idx: Place
    feature: Number | None = None
    layer: int | str | None = None
    token_prob: float | None = None
    is_target_logit: bool | None = None
    run_idx: Number | None = None
    reverse_ctx_idx: Number | None = None
    js_node_id: str = msgspec.field(default="", name="jsNodeId")
    clerp: str | None = ""
    influence: float | None = None
    activation: float | None = None
    qk_tracing_results: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Metadata(msgspec.Struct, frozen=True):
    """What is needed of a file's metadata."""

    slug: str
    scan: str
    prompt_tokens: list[str]
    prompt: str


class View(msgspec.Struct, frozen=True):
    """What somebody set on the page, as far as it is read."""

    supernodes: list[list[str]] = []


class _File(msgspec.Struct, frozen=True):
    metadata: msgspec.Raw
    nodes: list[_FileNode]
    links: list[Link]
    qParams: msgspec.Raw = msgspec.Raw(b"{}")
    qk_only_nodes: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Node(msgspec.Struct, frozen=True, gc=False):
    """A node of a graph, its numbers taken apart."""

    node_id: str
    """As links name it; distinct in most graphs."""
    node_type: NodeType
    feature_type: str
    """What the file calls its type, such as `cross layer transcoder`."""
    layer: int | None
    """-1 for embeddings; for logits as the file has it, mostly one more than there are layers; None
    for an error whose file does not tell."""
    pos: int
    feature_id: int | None
    """Of a feature, in its layer."""
    token_id: int | None
    """Of an embedding or a logit; None where the file does not tell."""
    label: str
    """What the file calls it (its `clerp`)."""
    influence: float | None
    """The file's own figure: circuit-tracer's is the share of all influence that this node and all
    that matter more have, so that small is strong."""
    activation: float | None
    token_prob: float | None
    is_target_logit: bool
    js_node_id: str
    run_idx: int | None
    reverse_ctx_idx: int | None
    more: str | None
    """Further JSON of the node (`qk_tracing_results`)."""


@dataclass(frozen=True)
class Graph:
    """One attribution graph."""

    slug: str
    scan: str
    """The model, by the name that the file's program has for it."""
    prompt: str
    tokens: list[str]
    nodes: list[Node]
    links: list[Link]
    supernodes: list[list[str]]
    """Of each its name, then the ids of its nodes."""
    metadata: str
    """JSON: all the file has."""
    view: str
    """JSON: `qParams` of the file."""
    more: str | None = None
    """JSON: `qk_only_nodes` of the file."""

    @property
    def shared_ids(self) -> set[str]:
        """Ids that several nodes go by: a link that names one is ambiguous."""
        counted = Counter(node.node_id for node in self.nodes)
        return {node_id for node_id, n in counted.items() if n > 1}


def read_graph(path: Path) -> Graph:
    """The graph of a file.

    Raises:
        UsageError: it is none, or cannot be read; the message says what to do.
    """
    content = _content(path)
    try:
        return parse_graph(content)
    except UsageError as error:
        raise UsageError(f"'{path}' {error}") from None


def parse_graph(content: bytes) -> Graph:
    """The graph of a file's content.

    Raises:
        UsageError: it is none; the message goes behind the name of the file.
    """
    try:
        found = _decoded(content)
        metadata = msgspec.json.decode(found.metadata, type=_Metadata)
        view = msgspec.json.decode(found.qParams, type=View)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"is no attribution graph ({error}); the graph's JSON is what is asked for, as "
            "circuit-tracer and Neuronpedia write it"
        ) from error
    if not 0 < len(metadata.slug) <= _MOST_NAME:
        raise UsageError(
            f"names its graph by a slug of {len(metadata.slug):,} characters; 1 to {_MOST_NAME} "
            "can be taken: write another into its metadata"
        )
    if not found.nodes:
        raise UsageError("has no nodes; write the graph again, with less of it pruned")
    if any(not supernode for supernode in view.supernodes):
        raise UsageError("has a supernode without a name; take it out of qParams")
    return Graph(
        slug=metadata.slug,
        scan=metadata.scan,
        prompt=metadata.prompt,
        tokens=metadata.prompt_tokens,
        nodes=[_node(node) for node in found.nodes],
        links=found.links,
        supernodes=view.supernodes,
        metadata=_tidy(found.metadata),
        view=_tidy(found.qParams),
        more=_some(found.qk_only_nodes),
    )


def graph_json(graph: Graph) -> bytes:
    """A graph as a file, which `parse_graph` reads as the same graph. What a file left out is
    written as null, and layers are written as texts, as circuit-tracer writes them."""
    written = _File(
        metadata=_raw(graph.metadata),
        qParams=_raw(graph.view),
        nodes=[_file_node(node) for node in graph.nodes],
        links=graph.links,
        qk_only_nodes=msgspec.UNSET if graph.more is None else _raw(graph.more),
    )
    return msgspec.json.encode(written) + b"\n"


def _file_node(node: Node) -> _FileNode:
    feature = {"embedding": node.pos, "error": -1, "logit": node.token_id}.get(node.node_type)
    if node.feature_id is not None and node.layer is not None:
        feature = paired(node.layer, node.feature_id)
    return _FileNode(
        node_id=node.node_id,
        feature_type=node.feature_type,
        ctx_idx=node.pos,
        feature=feature,
        layer="E" if node.node_type == "embedding" else _text(node.layer),
        token_prob=node.token_prob,
        is_target_logit=node.is_target_logit,
        run_idx=node.run_idx,
        reverse_ctx_idx=node.reverse_ctx_idx,
        js_node_id=node.js_node_id,
        clerp=node.label,
        influence=node.influence,
        activation=node.activation,
        qk_tracing_results=msgspec.UNSET if node.more is None else _raw(node.more),
    )


def _text(layer: int | None) -> str | None:
    return None if layer is None else str(layer)


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _content(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"'{path}' is no file; a graph's JSON is asked for")
        if found.st_size > _MOST_BYTES:
            raise UsageError(
                f"'{path}' has {found.st_size:,} bytes; graphs of up to {_MOST_BYTES:,} are read: "
                "prune it more when it is written"
            )
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror or error}") from error
    if path.suffix == ".pt" or content[:2] in (b"PK", b"\x80\x02"):
        raise UsageError(
            f"'{path}' is a pickle, which may run any program where it is read, and is not read "
            "here; where circuit-tracer is installed, make JSON of it with "
            "circuit_tracer.utils.create_graph_files(PT_FILE, SLUG, FOLDER), and take that"
        )
    return content


def _decoded(content: bytes) -> _File:
    try:
        return msgspec.json.decode(content, type=_File)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = str(error)
        if "truncated" in text:
            raise UsageError(
                f"ends in the middle, after {len(content):,} bytes; copy or write it again"
            ) from error
        place = _BYTE.search(text)
        if place and _NO_NUMBER.match(content, int(place[1])):
            raise UsageError(
                f"has NaN or infinity in it, at byte {int(place[1]):,}, which are no numbers: "
                "what was computed went wrong; trace the graph again, in float32"
            ) from error
        raise UsageError(f"is no JSON ({text}); copy or write it again") from error


def _node(node: _FileNode) -> Node:
    node_type = _node_type(node.feature_type)
    layer = _layer(node, node_type)
    feature_id = _feature_id(node, layer) if node_type == "feature" else None
    token_id = None
    if node_type == "logit":
        token_id = node.feature
    elif node_type == "embedding" and (found := _EMBEDDING.fullmatch(node.node_id)):
        token_id = int(found[1])
    return Node(
        node_id=node.node_id,
        node_type=node_type,
        feature_type=node.feature_type,
        layer=layer,
        pos=node.ctx_idx,
        feature_id=feature_id,
        token_id=token_id if token_id is None or 0 <= token_id <= _TOP else None,
        label=node.clerp or "",
        influence=node.influence,
        activation=node.activation,
        token_prob=node.token_prob,
        is_target_logit=bool(node.is_target_logit),
        js_node_id=node.js_node_id,
        run_idx=node.run_idx,
        reverse_ctx_idx=node.reverse_ctx_idx,
        more=_some(node.qk_tracing_results),
    )


def _node_type(feature_type: str) -> NodeType:
    """What kind of node a file's own word means: its errors are named for what makes them."""
    word = feature_type.casefold()
    if word in ("embedding", "logit"):
        return word  # pyright: ignore[reportReturnType]
    if "error" in word:
        return "error"
    if "transcoder" in word or word in ("lorsa", "sae", "feature"):
        return "feature"
    return "other"


def _layer(node: _FileNode, node_type: NodeType) -> int | None:
    """The layer of a node; an error that has none may have it in its name."""
    if node_type == "embedding":
        return -1
    try:
        layer = -1 if node.layer is None else int(node.layer)
    except ValueError:
        raise UsageError(
            f"has a node {_quoted(node.node_id)} whose layer is {_quoted(str(node.layer))}; layers "
            "are numbers, and E for embeddings"
        ) from None
    if 0 <= layer < 1 << 15:
        return layer
    if node_type == "error":
        found = _ERROR.fullmatch(node.node_id)
        return int(found[1]) if found and int(found[1]) < 1 << 15 else None
    if layer < 0 and node_type == "other":
        return None
    raise UsageError(
        f"has a node {_quoted(node.node_id)} ({node.feature_type}) whose layer is "
        f"{_quoted(str(node.layer))}; it needs one from 0 to {(1 << 15) - 1:,}"
    )


def _feature_id(node: _FileNode, layer: int | None) -> int:
    """The feature's number in its layer, from the pairing of both."""
    if node.feature is None or node.feature < 0:
        raise UsageError(
            f"has a node {_quoted(node.node_id)} ({node.feature_type}) without the number of its "
            "feature; write the graph again"
        )
    paired, feature_id = unpaired(node.feature)
    named = _THREE.fullmatch(node.node_id)
    told = (layer, int(named[2]) if named else feature_id)
    if (paired, feature_id) != told:
        raise UsageError(
            f"has a node {_quoted(node.node_id)} whose feature, {node.feature}, pairs layer "
            f"{paired} with feature {feature_id}, while the node says layer {told[0]}, feature "
            f"{told[1]}; one of them is wrong: write the graph again"
        )
    return feature_id


def paired(layer: int, feature_id: int) -> int:
    """Cantor's pairing: one number for a layer and a feature."""
    both = layer + feature_id
    return both * (both + 1) // 2 + feature_id


def unpaired(number: int) -> tuple[int, int]:
    """The layer and the feature of such a number; whole numbers all through, for a square root
    in floating point is off for large ones."""
    both = (math.isqrt(8 * number + 1) - 1) // 2
    feature_id = number - both * (both + 1) // 2
    return both - feature_id, feature_id


def _tidy(raw: msgspec.Raw) -> str:
    """JSON without the spaces of its file."""
    return msgspec.json.format(raw, indent=-1).decode()


def _some(raw: msgspec.Raw | msgspec.UnsetType) -> str | None:
    return None if isinstance(raw, msgspec.UnsetType) else _tidy(raw)


def _quoted(text: str) -> str:
    """A text of a file as one short line."""
    short = text if len(text) <= 60 else f"{text[:57]}..."
    return json.dumps(short)
