"""Columns of the tables that Neuronpedia's importer fills, and whether lines are rows of them.

S text, F a number, I a whole number, B yes or no, D a time, V a visibility, J JSON; [] a list of
them. ! must be written, ? may be NULL; else there is a default, and NULL is none of its values.
"""

import json
import math
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

_SHARED = "creatorId:S! createdAt:D visibility:V"
_WORDS = {
    "SourceRelease": f"""{_SHARED} name:S! isNewUi:B featured:B description:S! descriptionShort:S?
        urls:S[] creatorEmail:S? creatorName:S! creatorNameShort:S? defaultSourceSetName:S?
        defaultSourceId:S? defaultUmapSourceIds:S[]""",
    "Model": f"""{_SHARED} id:S! displayNameShort:S displayName:S tlensId:S? openRouterId:S?
        dimension:I? thinking:B defaultSourceSetName:S? defaultSourceId:S?
        defaultGraphSourceSetName:S? inferenceEnabled:B instruct:B layers:I! neuronsPerLayer:I!
        owner:S! updatedAt:D website:S?""",
    "SourceSet": f"""{_SHARED} modelId:S! name:S! hasDashboards:B allowInferenceSearch:B
        description:S! type:S creatorName:S! urls:S[] creatorEmail:S? releaseName:S? hasGraphs:B
        graphEnabled:B similarityMatrixEnabled:B defaultOfModelId:S? defaultGraphModelId:S?
        defaultRange:I defaultShowBreaks:B showDfa:B showCorrelated:B showHeadAttribution:B
        showUmap:B""",
    "Source": f"""{_SHARED} id:S! modelId:S! hasDashboards:B inferenceEnabled:B saelensConfig:J?
        saelensRelease:S? saelensSaeId:S? hfRepoId:S? hfFolderId:S? defaultOfModelId:S? setName:S!
        hasUmap:B hasUmapLogSparsity:B hasUmapClusters:B num_prompts:I? num_tokens_in_prompt:I?
        dataset:S? notes:S? cosSimMatchModelId:S? cosSimMatchSourceId:S?""",
    "Neuron": """modelId:S! layer:S! index:S! sourceSetName:S? creatorId:S? createdAt:D
        maxActApprox:F? hasVector:B vector:F[] vectorLabel:S? vectorDefaultSteerStrength:F?
        hookName:S? topkCosSimIndices:I[] topkCosSimValues:F[] neuron_alignment_indices:I[]
        neuron_alignment_values:F[] neuron_alignment_l1:F[] correlated_neurons_indices:I[]
        correlated_neurons_pearson:F[] correlated_neurons_l1:F[] correlated_features_indices:I[]
        correlated_features_pearson:F[] correlated_features_l1:F[] neg_str:S[] neg_values:F[]
        pos_str:S[] pos_values:F[] frac_nonzero:F freq_hist_data_bar_heights:F[]
        freq_hist_data_bar_values:F[] logits_hist_data_bar_heights:F[]
        logits_hist_data_bar_values:F[] decoder_weights_dist:F[] umap_cluster:I?
        umap_log_feature_sparsity:F? umap_x:F? umap_y:F?""",
    "Activation": """id:S! tokens:S[] dataIndex:S? index:S! layer:S! modelId:S! dataSource:S?
        maxValue:F! maxValueTokenIndex:I! minValue:F! values:F[] dfaValues:F[] dfaTargetIndex:I?
        dfaMaxValue:F? zQIndices:I[] zKIndices:I[] zValues:F[] creatorId:S! createdAt:D
        lossValues:F[] logitContributions:S? binMin:F? binMax:F? binContains:F?
        qualifyingTokenIndex:I?""",
    "Explanation": """id:S! modelId:S! layer:S! index:S! description:S! authorId:S!
        triggeredByUserId:S? notes:S? scoreV1:F scoreV2:F? umap_x:F? umap_y:F? umap_cluster:I?
        umap_log_feature_sparsity:F? typeName:S? explanationModelName:S? createdAt:D updatedAt:D""",
    "ExplanationScore": """id:S! initiatedByUserId:S! value:F! explanationId:S!
        explanationScoreTypeName:S! explanationScoreModelName:S! jsonDetails:S createdAt:D""",
}
COLUMNS = {
    table: dict(word.split(":") for word in words.split()) for table, words in _WORDS.items()
}
"""Of each table, the kind of each column."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_time(value: Any) -> bool:
    has_form = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value)
    return has_form is not None and datetime.fromisoformat(value) is not None


_FITS = {
    "S": lambda value: isinstance(value, str) and "\0" not in value,
    "F": _is_number,
    "I": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "B": lambda value: isinstance(value, bool),
    "D": _is_time,
    "V": lambda value: value == "PUBLIC",
    "J": lambda value: isinstance(value, dict),
}


def check(table: str, lines: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of a file's lines; an assertion fails where the importer would lose a thing."""
    rows = [json.loads(line) for line in lines]
    columns = COLUMNS[table]
    for row in rows:
        assert row.keys() == rows[0].keys(), "columns are those of the first line"
        assert row.keys() <= columns.keys(), "what is no column vanishes"
        assert {name for name, kind in columns.items() if kind.endswith("!")} <= row.keys()
        assert "visibility" in row or "visibility" not in columns, "it would be private"
        for name, value in row.items():
            _check_value(f"{table}.{name}", columns[name], value)
    return rows


def _check_value(where: str, kind: str, value: Any) -> None:
    if kind.endswith("[]"):
        assert isinstance(value, list) and all(map(_FITS[kind[0]], value)), (where, value)
    elif value is None:
        assert kind.endswith("?"), where
    else:
        assert _FITS[kind[0]](value), (where, value)
