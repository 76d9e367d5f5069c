"""Small models with real tokenizers and processors, trimmed and written as artifacts, for the exports to start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from trimtab.anatomy.tiny import randomize
from trimtab.core.fit import RoundsInput, Site
from trimtab.core.linear import Linear
from trimtab.load import artifact, open_source
from trimtab.quantize import RTN

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,;?\n"
WIDTH: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
Choose = Callable[[str], Any]
"""From a host's name to the method that it is trimmed with, None for none."""


def letters() -> PreTrainedTokenizerFast:
    """A token for each letter, so that any sentence has many different ones."""
    words = ["<pad>", "<s>", "</s>", "<image>", *LETTERS]
    bare = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<s>"))
    bare.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=bare, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left",
        model_input_names=["input_ids", "attention_mask"], extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip


def text(**more: Any) -> LlamaConfig:
    named = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False}
    return LlamaConfig(
        **{**WIDTH, "vocab_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 512, **named, **more}
    )


def language(folder: Path, dtype: torch.dtype = torch.float32, **more: Any) -> None:
    """A Llama in the hub's layout at ``folder``."""
    save(LlamaForCausalLM(text(**more)), letters(), folder, dtype)


def seeing(folder: Path, dtype: torch.dtype = torch.float32, **more: Any) -> None:
    """A LLaVA of 16 image tokens; ``more``: of the tower's and the decoder's config."""
    vision = CLIPVisionConfig(**{**WIDTH, **more}, image_size=16, patch_size=4)
    config = LlavaConfig(
        vision_config=vision, text_config=text(**more), image_token_index=3, image_seq_length=16,
        vision_feature_layer=-1, vision_feature_select_strategy="default", tie_word_embeddings=False,
    )  # fmt: skip
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = LlavaProcessor(
        pictures, letters(), patch_size=4, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )
    save(LlavaForConditionalGeneration(config), processor, folder, dtype)


def save(model: PreTrainedModel, processor: Any, folder: Path, dtype: torch.dtype) -> None:
    """Random weights that show a lost norm or bias, in the hub's layout."""
    torch.manual_seed(0)
    randomize(model)
    model.to(dtype).save_pretrained(folder)
    processor.save_pretrained(folder)


def sure(make: Callable[..., None], folder: Path, **more: Any) -> Path:
    """A model that is sure of its words, as a trained one is: a rounding turns tokens that are nearly tied, of which a
    random head has many."""
    make(folder, **more)
    tensors = load_file(folder / "model.safetensors")
    words, head = (next(n for n in tensors if n.endswith(f"{end}.weight")) for end in ("embed_tokens", "lm_head"))
    count, width = tensors[words].shape
    apart = torch.linalg.qr(torch.randn(width, width))[0][:count].contiguous().to(tensors[words].dtype)
    tensors[words], tensors[head] = apart * 32, apart.roll(1, 0).contiguous()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def trimmed(source: Path, out: Path, choose: Choose, policies: Any = (), **edits: Mapping[str, Any]) -> Path:
    """The artifact of the model at ``source`` after ``choose`` said for each host how to trim it; tied ones as one."""
    loaded = open_source(str(source))
    made: dict[int, Any] = {}
    for name, host in artifact.hosts(loaded.anatomy):
        method = choose(name)
        if method is not None:
            old = host.w
            made.setdefault(id(old), method(old, Site(name, old.dense)))
            host.w = made[id(old)]
            if isinstance(method, RoundsInput) and isinstance(host, Linear):
                host.acts = method.acts
    loaded.policies = policies
    artifact.write(out, loaded, {})
    return out


def four(name: str) -> Any:
    """4 bits on the decoder's linears, groups of 32."""
    return RTN(bits=4, group_size=32) if "layers" in name and "vision" not in name else None
