"""Small random models of many classes of transformers, built in this process in moments.

A class is made from its own default configuration with every size it knows made small; what some
classes want beside that stands in `_ALSO`. Weights are large enough that nothing is flat, and the
biases that balance mixtures are random, so that they move choices.
"""

from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

N_CTX = 64
_SIZES: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 32, "n_embd": 32, "d_model": 32, "intermediate_size": 48,
    "ffn_dim": 48, "moe_intermediate_size": 16, "num_hidden_layers": 2, "n_layer": 2,
    "n_layers": 2, "num_layers": 2, "num_attention_heads": 4, "n_head": 4, "n_heads": 4,
    "num_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": N_CTX,
    "n_positions": N_CTX, "max_seq_len": N_CTX, "num_experts": 4, "num_local_experts": 4,
    "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "num_experts_per_token": 2, "moe_topk": 2, "moe_k": 2, "top_k_experts": 2, "n_group": 1,
    "topk_group": 1, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
    "initializer_range": 0.3, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4, "v_head_dim": 8, "shared_expert_intermediate_size": 16,
    "shared_intermediate_size": 16, "word_embed_proj_dim": 32, "rotary_dim": 4,
}  # fmt: skip
_LATENT = {"num_key_value_heads": 4, "n_shared_experts": 1, "first_k_dense_replace": 0}
_SPARSE = {**_LATENT, "index_head_dim": 8, "index_n_heads": 4, "index_topk": 64}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
_PLAIN_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip
_ALSO: dict[str, dict[str, Any]] = {
    "axk1": {**_LATENT, "head_dim": 4},
    "axk2": _SPARSE,
    "bailing_hybrid": {
        **_LATENT, "head_dim": 8, "layer_types": ["linear_attention", "full_attention"],
        "mlp_layer_types": ["sparse", "sparse"],
    },
    "beam": {"mlp_layer_types": ["dense", "sparse"]},
    "dbrx": {
        "attn_config": {"rope_theta": 1e4, "kv_n_heads": 2, "clip_qkv": 8.0},
        "ffn_config": {"moe_num_experts": 4, "moe_top_k": 2, "ffn_hidden_size": 48},
    },
    "deepseek_v2": {**_LATENT, "num_experts_per_tok": 2, "topk_method": "greedy"},
    "deepseek_v3": {**_LATENT, "head_dim": 4},
    "deepseek_v32": _SPARSE,
    "doge": {"is_moe": True},
    "dots1": {**_LATENT, "n_routed_experts": 4, "num_experts_per_tok": 2},
    "falcon": {"new_decoder_architecture": False, "multi_query": True, "alibi": False},
    "gemma2": {"query_pre_attn_scalar": 8, "sliding_window": 8, "final_logit_softcapping": 2.0},
    "gemma3_text": {"query_pre_attn_scalar": 8, "sliding_window": 8},
    "gemma4_text": {
        "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2,
        "moe_intermediate_size": 16, "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8,
        "head_dim": 8, "global_head_dim": 8,
    },
    "falcon_h1": {**_MAMBA, "mamba_d_ssm": 64, "mamba_chunk_size": 8},
    "flint": {"mlp_only_layers": []},
    "glm4_moe": {"first_k_dense_replace": 0},
    "glm4_moe_lite": _LATENT,
    "glm_moe_dsa": _SPARSE,
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "gpt_oss": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8},
    "granitemoehybrid": {**_MAMBA, "layer_types": ["mamba", "attention"]},
    "hunyuan_v1_moe": _PLAIN_ROPE,
    "hy_v4": _SPARSE,
    "jamba": {
        "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8,
        "use_mamba_kernels": False,
    },
    "kimi_linear": {
        **_LATENT, "linear_head_dim": 8, "layer_types": ["linear_attention", "full_attention"],
        "mlp_layer_types": ["sparse", "sparse"],
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 0},
    "longcat_flash": {
        **_LATENT, "head_dim": 4, "zero_expert_num": 2, "ffn_hidden_size": 48,
        "expert_ffn_hidden_size": 16, "moe_topk": 2,
    },
    "mistral": {"sliding_window": 8},
    "nemotron_h": {
        "mamba_num_heads": 4, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1,
        "chunk_size": 8,
    },
    "opt": {"activation_function": "relu"},
    "phi3": {"sliding_window": None},
    "qwen3_5_moe_text": _LINEAR,
    "qwen3_next": _LINEAR,
    "qwen4_exp_text": _LINEAR,
    "stablelm": {"partial_rotary_factor": 0.5},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip


MIXTURES = (
    "afmoe", "aria_text", "axk1", "axk2", "bailing_hybrid", "beam", "cohere2_moe", "dbrx",
    "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "dots1", "ernie4_5_moe",
    "exaone_moe", "flex_olmo", "flint", "gemma4_text", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa",
    "gpt_oss", "granitemoe", "granitemoe_swa", "granitemoehybrid", "granitemoeshared", "hy_v3",
    "hy_v4", "inkling2_text", "inkling_text", "jamba", "kimi_linear", "kolibri1", "laguna",
    "lfm2_moe", "llama4_text", "longcat_flash", "mellum", "mimo_v2_flash", "minimax",
    "minimax_m2", "minimax_m3_vl_text", "mixtral", "nemotron_h", "olmoe", "phimoe", "qwen2_moe",
    "qwen3_5_moe_text", "qwen3_moe", "qwen3_next", "solar_open", "zaya",
)  # fmt: skip
"""The mixtures of experts whose experts are handed their choices."""


_LONG = {
    "rope_type": "longrope", "rope_theta": 10_000.0, "original_max_position_embeddings": 8,
    "short_factor": [1.0] * 4, "long_factor": [4.0, 2.0, 3.0, 5.0],
}  # fmt: skip
_DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}
_YARN = {
    "rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 4.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
}  # fmt: skip
_LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "longrope": ("phi3", {"rope_parameters": _LONG, "original_max_position_embeddings": 8}),
    "longrope, another class": (
        "llama", {"rope_parameters": _LONG, "original_max_position_embeddings": 8}
    ),
    "dynamic NTK": ("llama", {"rope_parameters": _DYNAMIC, "max_position_embeddings": 8}),
    "dynamic NTK, another class": (
        "qwen2", {"rope_parameters": _DYNAMIC, "max_position_embeddings": 8}
    ),
    "YaRN": ("qwen3", {"rope_parameters": _YARN}),
    "Llama 3's frequencies": ("llama", {"rope_parameters": _LLAMA3}),
    "linear scaling": ("llama", {"rope_parameters": _LINEAR_ROPE}),
    "sliding window": ("mistral", {"sliding_window": 4}),
    "sliding window, longrope": (
        "phi3",
        {
            "sliding_window": 4, "rope_parameters": _LONG,
            "original_max_position_embeddings": 8,
        },
    ),
    "local and global": ("gemma3_text", {"sliding_window": 4}),
    "ALiBi": ("bloom", {}),
    "chunks": ("llama4_text", {"attention_chunk_size": 4}),
}  # fmt: skip
"""What decides how far a token sees and how positions are told apart: a class, and its settings."""


def small_config(model_type: str, **changes: Any) -> PretrainedConfig:
    """A configuration of this type with small sizes; `changes` come last."""
    kind = CONFIG_MAPPING[model_type]
    default = kind()
    sizes = {
        name: size
        for name, size in _SIZES.items()
        if kind.attribute_map.get(name) not in _SIZES and _knows(default, name)  # not by two names
    }
    return kind(**{**sizes, **_ALSO.get(model_type, {}), **changes})


def small_model(model_type: str, seed: int = 0, **changes: Any) -> Any:
    """A causal language model of this type with random weights."""
    torch.manual_seed(seed)
    model = causal_class(model_type)(small_config(model_type, **changes)).eval()
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            last = name.rpartition(".")[2]
            if tensor.is_floating_point() and tensor.ndim > 1 and tensor.std() < 1e-3:
                tensor.normal_(0, 0.3)
            elif "norm" in name or "ln_" in name:
                tensor.add_(0.2 * torch.randn_like(tensor))
            elif "correction_bias" in last or "expert_bias" in last or "balancing" in last:
                tensor.add_(0.5 * torch.randn_like(tensor))
            elif last == "tid2eid":
                tensor.random_(0, 4)
    return model


def causal_class(model_type: str) -> Any:
    """The class `AutoModelForCausalLM` makes of it."""
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]
    return getattr(transformers, name if isinstance(name, str) else name[0])


def _knows(config: PretrainedConfig, name: str) -> bool:
    if name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        return True
    try:
        return getattr(config, name, None) is not None
    except Exception as error:  # attributes that differ by layer refuse to be read
        return "per-layer" in str(error)
