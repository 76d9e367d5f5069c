"""Tiny language models and text encoders."""

from __future__ import annotations

from functools import partial
from typing import Any

from transformers import (
    BertConfig,
    BertModel,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from trimtab.anatomy.tiny.base import PAD, TEXT, VOCABULARY, Tiny, text_batch

WHOLE = {key: value for key, value in TEXT.items() if key not in ("num_key_value_heads", "head_dim")}
"""For families without grouped queries."""


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**TEXT, attention_bias=True, tie_word_embeddings=False))


def mistral() -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(**TEXT, sliding_window=5, tie_word_embeddings=False))


def qwen2() -> PreTrainedModel:
    return Qwen2ForCausalLM(
        Qwen2Config(**TEXT, use_sliding_window=True, sliding_window=5, max_window_layers=2, tie_word_embeddings=True)
    )


def qwen3() -> PreTrainedModel:
    return Qwen3ForCausalLM(Qwen3Config(**TEXT, tie_word_embeddings=False))


def gemma3() -> PreTrainedModel:
    return Gemma3ForCausalLM(
        Gemma3TextConfig(
            **TEXT, sliding_window=5, query_pre_attn_scalar=12, tie_word_embeddings=True,
            layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
            final_logit_softcapping=20.0,
        )
    )  # fmt: skip


def phi() -> PreTrainedModel:
    return PhiForCausalLM(PhiConfig(**TEXT, partial_rotary_factor=0.5, qk_layernorm=True, tie_word_embeddings=False))


def phi3() -> PreTrainedModel:
    return Phi3ForCausalLM(Phi3Config(**TEXT, partial_rotary_factor=0.75, sliding_window=5, tie_word_embeddings=False))


def gptneox(parallel: bool = True) -> PreTrainedModel:
    """One behind the other also without biases, and with a tied head."""
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            **WHOLE, rotary_pct=0.5, use_parallel_residual=parallel, attention_bias=parallel,
            tie_word_embeddings=not parallel,
        )
    )  # fmt: skip


def opt(**layout: Any) -> PreTrainedModel:
    sizes = {"ffn_dim" if key == "intermediate_size" else key: value for key, value in WHOLE.items()}
    return OPTForCausalLM(OPTConfig(**sizes, **layout))


def bert() -> PreTrainedModel:
    return BertModel(
        BertConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            max_position_embeddings=64, pad_token_id=PAD,
        )
    )  # fmt: skip


MODELS = {
    "bert": Tiny(bert, text_batch, answer="last_hidden_state", decodes=False),
    "gemma3": Tiny(gemma3, text_batch),
    "gptneox": Tiny(gptneox, text_batch),
    "gptneox-serial": Tiny(partial(gptneox, False), text_batch),
    "llama": Tiny(llama, text_batch),
    "mistral": Tiny(mistral, text_batch),
    "opt": Tiny(opt, text_batch),
    "opt-narrow": Tiny(partial(opt, do_layer_norm_before=False, word_embed_proj_dim=24), text_batch),
    "phi": Tiny(phi, text_batch),
    "phi3": Tiny(phi3, text_batch),
    "qwen2": Tiny(qwen2, text_batch),
    "qwen3": Tiny(qwen3, text_batch),
}
