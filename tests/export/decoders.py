"""Small decoders that GGUF has a graph for, with tokenizers of both kinds that it can hold, as artifacts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from trimtab.anatomy.tiny import randomize
from trimtab.core.fit import Site
from trimtab.core.weight import Quantized
from trimtab.export.gguf.vocabulary import RULES
from trimtab.load import Loaded, artifact, open_source
from trimtab.quantize import RTN
from trimtab.zoo.make import build

SIZE = 320
"""Rows of the word table: more than there are tokens."""
TEXT: dict[str, Any] = {
    "vocab_size": SIZE, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
LONG = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32}  # fmt: skip
STRETCHED = {
    "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}
MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("i", "n"), ("t", "he"), ("o", "u"), ("e", "r")]


def llama(**more: Any) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**(TEXT | {"tie_word_embeddings": False} | more)))


def gemma3(**more: Any) -> PreTrainedModel:
    """Of a width whose root bfloat16 does not hold: by it the words are scaled."""
    own = {"hidden_size": 96, "num_hidden_layers": 7, "sliding_window": 5, "query_pre_attn_scalar": 16,
           "tie_word_embeddings": True, "rope_parameters": STRETCHED}  # fmt: skip
    return Gemma3ForCausalLM(Gemma3TextConfig(**(TEXT | own | more)))


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: llama(attention_bias=True, mlp_bias=True),
    "llama-3.1": lambda: llama(rope_parameters=LONG, tie_word_embeddings=True),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**TEXT, sliding_window=200, tie_word_embeddings=False)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**TEXT, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**TEXT, tie_word_embeddings=False)),
    "gemma3": gemma3,
}


def byte_level(rule: str) -> Tokenizer:
    """Byte-level BPE that splits text as the rule of that name."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {word: row for row, word in enumerate(["<pad>", "<s>", "</s>", *letters, *map("".join, MERGES)])}
    made = Tokenizer(models.BPE(vocabulary, MERGES))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if RULES[rule]:
        made.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(RULES[rule]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])  # fmt: skip
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return made


def sentence_piece() -> Tokenizer:
    """BPE of SentencePiece without a space in front, as Gemma's: bytes stand for letters that are no token."""
    letters = ["\u2581", *"abcdefghijklmnopqrstuvwxyz?!,."]
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    octets = [f"<0x{value:02X}>" for value in range(256)]
    vocabulary = {word: row for row, word in enumerate([*special, *octets, *letters, *map("".join, MERGES)])}
    made = Tokenizer(models.BPE(vocabulary, MERGES, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "\u2581")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return made


def folder(path: Path, name: str, dtype: torch.dtype = torch.bfloat16) -> Path:
    """The small model of that name with a tokenizer, in the hub's layout."""
    torch.manual_seed(0)
    model = MODELS[name]()
    randomize(model)
    model.to(dtype).save_pretrained(path)
    bare = sentence_piece() if name == "gemma3" else byte_level("qwen2" if "qwen" in name else "gpt-2")
    words = PreTrainedTokenizerFast(
        tokenizer_object=bare, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left",
        **({"unk_token": "<unk>"} if name == "gemma3" else {}),
    )  # fmt: skip
    words.save_pretrained(path)
    return path


def coarse(w: Quantized) -> Quantized:
    """The same codes with powers of two for scales: no product is rounded, in whatever dtype it is taken."""
    w.scale = w.scale.float().log2().round().exp2().to(w.scale.dtype)
    return w


def trim(loaded: Loaded, methods: Sequence[Any], skip: str = "layers.1.") -> Loaded:
    """The linears and the table by the methods in turn, a tied pair as one weight; those with ``skip`` in their name
    stay dense."""
    made: dict[int, Any] = {}
    kept = []
    for number, (name, host) in enumerate(artifact.hosts(loaded.anatomy)):
        old = host.w
        if not re.search(skip, name):
            made.setdefault(id(old), coarse(methods[number % len(methods)](old, Site(name, old.dense))))
            kept.append(old)  # its id must not be given to another
            host.w = made[id(old)]
    return loaded


GRIDS = (
    RTN(bits=4, group_size=32, symmetric=True),
    RTN(bits=4, group_size=32),
    RTN(bits=8, group_size=32, symmetric=True),
    RTN(bits=3, group_size=32),
)


def made(path: Path, name: str, methods: Sequence[Any] = GRIDS, dtype: torch.dtype = torch.bfloat16) -> Path:
    """An artifact of the small model of that name at ``path``."""
    source = path.with_name(f"{path.name}-source")
    loaded = trim(open_source(llava(source) if name == "llava" else folder(source, name, dtype)), methods)
    artifact.write(path, loaded, {})
    return path


def llava(path: Path, **vision: Any) -> Path:
    """The built-in model's shape, narrower, at random weights in bfloat16, with its own processor."""
    processor = build.processor()
    config = build.config(processor.tokenizer)
    config.vision_config.update({"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2})
    config.vision_config.update({"num_hidden_layers": 3} | vision)
    config.text_config.update({"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2})
    config.text_config.update({"head_dim": 32, "num_hidden_layers": 2})
    config.vision_feature_layer = -2
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    randomize(model)
    model.to(torch.bfloat16).save_pretrained(path)
    processor.save_pretrained(path)
    return path
