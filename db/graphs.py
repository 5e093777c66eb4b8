"""The tables of attribution graphs: what adds to what in a model, on the way to its next token."""

import pyarrow as pa

from energylens.db.table import Column, Table

GRAPH = Column("graph_id", pa.string(), "the graph, by the slug of its file")
_WEIGHT = "how much of the target's input it is: |weight| over that of all links to the target"

GRAPHS = Table(
    "graphs",
    "An attribution graph: what adds to what in a model on one prompt, as circuit-tracer traces "
    "it. Taken in by `energylens import graph`; docs/graphs.md tells what can be read in it.",
    "store",
    ("graph_id",),
    (
        GRAPH,
        Column("scan", pa.string(), "the model, by the name the file has for it"),
        Column(
            "source_set",
            pa.string(),
            "the dictionaries its features are of, as the file names them; NULL where it does not",
        ),
        Column("prompt", pa.string(), "the text"),
        Column("tokens", pa.list_(pa.string()), "the text's tokens; graph_nodes.pos counts them"),
        Column("generator", pa.string(), "what traced it; NULL where the file does not tell"),
        Column("created", pa.string(), "when, in UTC; NULL where the file does not tell"),
        Column("n_nodes", pa.int32(), "nodes, of all types"),
        Column("n_features", pa.int32(), "of them features at a token"),
        Column("n_links", pa.int32(), "links between them"),
        Column("n_ambiguous", pa.int32(), "links that name an id which several nodes go by"),
        Column("n_nowhere", pa.int32(), "links that name an id which no node has"),
        Column(
            "error_share",
            pa.float64(),
            "of what reaches the logits from where the graph begins, the part that comes from "
            "errors of reconstruction, not from tokens: what the graph does not explain; NULL "
            "where the links run in circles",
        ),
        Column(
            "joined",
            pa.string(),
            "JSON: the run and the SAE that the features of a layer are joined to, by layer; NULL "
            "where none is",
        ),
        Column("metadata", pa.string(), "JSON: all that the file says of it"),
        Column("view", pa.string(), "JSON: what was pinned and grouped (qParams)"),
        Column("more", pa.string(), "JSON: nodes of attention alone (qk_only_nodes); mostly NULL"),
        Column("sha256", pa.string(), "of the graph as `energylens export graph` writes it"),
    ),
)
GRAPH_NODES = Table(
    "graph_nodes",
    "A node of an attribution graph. run_id and sae_id join its feature to what a run knows of it "
    "(features, codes, explanations), where the run's dictionary is the graph's.",
    "store",
    ("graph_id", "number"),
    (
        GRAPH,
        Column("number", pa.int32(), "the node's place in its graph, from 0"),
        Column("node_id", pa.string(), "its name in the file; several nodes may go by one"),
        Column("node_type", pa.string(), "embedding, feature, error, logit, or other"),
        Column("feature_type", pa.string(), "the type as the file has it"),
        Column(
            "layer",
            pa.int16(),
            "-1 for embeddings; for logits above all layers; NULL where the file does not tell",
        ),
        Column("feature_id", pa.int64(), "the feature's number in its layer; NULL for no feature"),
        Column("pos", pa.int32(), "the token it stands at, from 0"),
        Column("token_id", pa.int64(), "of an embedding or a logit; NULL where there is none"),
        Column("label", pa.string(), "what the file calls it (clerp); mostly empty"),
        Column(
            "share",
            pa.float64(),
            "the part of what reaches the logits that goes through the node, by the links that are "
            "in the graph; 1 for all logits together; NULL where the links run in circles",
        ),
        Column(
            "influence",
            pa.float64(),
            "the file's figure: circuit-tracer adds up the shares of this node and all that have "
            "more, so that small is strong, and takes nodes up to its threshold",
        ),
        Column("activation", pa.float64(), "the feature's activation; NULL for no feature"),
        Column("token_prob", pa.float64(), "probability of a logit's token; 0 or NULL for others"),
        Column("is_target_logit", pa.bool_(), "the logit that the graph was traced for"),
        Column("is_ambiguous", pa.bool_(), "another node of the graph goes by the same node_id"),
        Column("run_id", pa.string(), "the run that its feature is joined to; NULL for none"),
        Column("sae_id", pa.string(), "the SAE of it"),
        Column("js_node_id", pa.string(), "kept for export (jsNodeId)"),
        Column("run_idx", pa.int64(), "kept for export"),
        Column("reverse_ctx_idx", pa.int64(), "kept for export"),
        Column("more", pa.string(), "kept for export (qk_tracing_results); mostly NULL"),
    ),
)
GRAPH_LINKS = Table(
    "graph_links",
    "A link of an attribution graph: what one node adds to another, directly.",
    "store",
    ("graph_id", "number"),
    (
        GRAPH,
        Column("number", pa.int32(), "the link's place in its graph, from 0"),
        Column("source_id", pa.string(), "node_id of where it comes from"),
        Column("target_id", pa.string(), "node_id of where it goes"),
        Column(
            "source",
            pa.int32(),
            "number of the node it comes from; NULL where several or none have that id",
        ),
        Column("target", pa.int32(), "number of the node it goes to; NULL likewise"),
        Column("weight", pa.float64(), "what it adds, in the units of its file"),
        Column("share", pa.float64(), f"{_WEIGHT}; NULL where an end is not known"),
        Column("is_ambiguous", pa.bool_(), "several nodes have the id of an end"),
        Column("is_nowhere", pa.bool_(), "no node has the id of an end"),
    ),
)
GRAPH_SUPERNODES = Table(
    "graph_supernodes",
    "A node in a group that somebody made of nodes of a graph and gave a name.",
    "store",
    ("graph_id", "number", "rank"),
    (
        GRAPH,
        Column("number", pa.int32(), "the group's place among those of its graph, from 0"),
        Column("rank", pa.int32(), "the node's place in the group, from 0"),
        Column("name", pa.string(), "what the group is called"),
        Column("node_id", pa.string(), "the node; NULL for a group that has none"),
    ),
)
GRAPH_TABLES = (GRAPHS, GRAPH_NODES, GRAPH_LINKS, GRAPH_SUPERNODES)
"""Tables that are of a store, not of a run."""
