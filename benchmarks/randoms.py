"""Models of well-known shapes at random weights, in the library's layout: values do not matter where time is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

SIDE, TOKENS = 512, 64
"""Pixels of a tile's side, and what it stands for among the words, in SmolVLM."""
IMAGE, AROUND = 49190, 49189
"""SmolVLM's image token and the one around each tile."""


def written(model: PreTrainedModel, folder: Path) -> Path:
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def words(count: int) -> PreTrainedTokenizerFast:
    """Bytes, one pair of them (llama.cpp wants a pair), and words that no text has: engines want as many as the table
    has rows."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    named = ["<pad>", "<s>", "</s>", *letters, "ab"]
    rows = {word: row for row, word in enumerate([*named, *(f"w{n}" for n in range(count - len(named)))])}
    made = Tokenizer(models.BPE(rows, [("a", "b")]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def llama(folder: Path) -> Path:
    """Llama 3.2 1B's shape."""
    if (folder / "model.safetensors").is_file():
        return folder
    torch.manual_seed(0)
    rotary = {"rope_theta": 500000.0, "rope_type": "default"}
    config = LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, head_dim=64, max_position_embeddings=8192, tie_word_embeddings=True, rms_norm_eps=1e-5,
        rope_parameters=rotary, bos_token_id=1, eos_token_id=2, pad_token_id=0, dtype="bfloat16",
    )  # fmt: skip
    words(config.vocab_size).save_pretrained(folder)
    return written(LlamaForCausalLM(config), folder)


def smolvlm(folder: Path) -> Path:
    """SmolVLM-256M's shape: SigLIP base at 512 pixels, a Llama of 30 layers."""
    if (folder / "model.safetensors").is_file():
        return folder
    torch.manual_seed(0)
    vision: dict[str, Any] = {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "image_size": SIDE, "patch_size": 16,
    }  # fmt: skip
    text: dict[str, Any] = {
        "model_type": "llama", "vocab_size": 49280, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "pad_token_id": 2,
        "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
    }  # fmt: skip
    config = SmolVLMConfig(vision_config=vision, text_config=text, scale_factor=4, image_token_id=IMAGE,
                           tie_word_embeddings=False, pad_token_id=2)  # fmt: skip
    return written(SmolVLMForConditionalGeneration(config), folder)


def tiled(tiles: int, words: list[int]) -> list[int]:
    """A prompt as SmolVLM's processor writes it: each tile between tokens around it, then the words."""
    one = [AROUND, 49100, *[IMAGE] * TOKENS]
    return [1, *one * tiles, AROUND, *words]
