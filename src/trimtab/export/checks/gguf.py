"""GGUF files read by others: ``python -I gguf.py FOLDER SAMPLES``.

The package ``gguf`` reads and dequantizes every tensor, transformers' own reader makes the decoder (names, order of
rows, values). What that reader leaves out of the config is taken from the file's keys, as llama.cpp takes it. Tower and
projector come from the second file by the table below, all their sizes from its keys. What is dequantized is rounded to
the dtype in which the artifact is served, then calculated with in float32.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).with_name("shared")))  # -I leaves a script's own folder out

import gguf
import numpy as np
import torch
import transformers as tf
from library import asked, widened
from teacher import main

EYES = {
    "class_embd": "embeddings.class_embedding", "patch_embd": "embeddings.patch_embedding",
    "position_embd": "embeddings.position_embedding", "pre_ln": "pre_layrnorm", "ln1": "layer_norm1",
    "ln2": "layer_norm2", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2",
}  # fmt: skip
JOIN = {"0": "linear_1", "2": "linear_2"}
TEXTS = (
    "What is in the picture? It's a red circle, isn't it, and 12 blue squares: 3.14 of them!",
    "  Two  spaces, a tab\tand a line\n\nthen \u00e9\u00fc\u4e2d\u6587 \U0001f642 and (x+1)*[y-2] == 2024.",
)


def read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Keys and dequantized tensors. Raises AssertionError where one is not finite."""
    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {}
    for one in reader.tensors:
        value = np.ascontiguousarray(gguf.quants.dequantize(one.data, one.tensor_type), dtype=np.float32)
        assert np.isfinite(value).all(), f"{path.name}: {one.name} is not finite"
        tensors[one.name] = torch.from_numpy(value.copy())
    return keys, tensors


def served(folder: Path) -> torch.dtype:
    """The dtype of the artifact."""
    name = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("dtype") or "float32"
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found


def config_of(folder: Path, name: str, keys: dict[str, Any], names: set[str]) -> Any:
    """The reader's config, with what it leaves out."""
    config, arch = tf.AutoConfig.from_pretrained(folder, gguf_file=name), keys["general.architecture"]
    config.head_dim = keys[f"{arch}.attention.key_length"]
    config.attention_bias = "blk.0.attn_q.bias" in names
    config.mlp_bias = "blk.0.ffn_up.bias" in names
    near = f"{arch}.rope.freq_base_swa"
    full = config.rope_parameters["full_attention"] if near in keys else config.rope_parameters
    full["rope_theta"] = keys[f"{arch}.rope.freq_base"]
    if keys.get(f"{arch}.rope.scaling.type") == "linear":
        full |= {"rope_type": "linear", "factor": keys[f"{arch}.rope.scaling.factor"]}
    if arch == "gemma3":
        config.rope_parameters["sliding_attention"]["rope_theta"] = keys[near]
        wide = keys[f"{arch}.embedding_length"] // keys[f"{arch}.attention.head_count"]
        config.query_pre_attn_scalar = wide if keys[f"{arch}.block_count"] == 62 else config.head_dim
    return config


def decoder(folder: Path, name: str = "model.gguf") -> Any:
    """The language model in float32, every tensor of the file in it."""
    keys, tensors = read(folder / name)
    divisors = tensors.pop("rope_freqs.weight", None)
    model, info = tf.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, config=config_of(folder, name, keys, set(tensors)), dtype=served(folder),
        quantization_config=tf.GgufConfig(dequantize=True), output_loading_info=True,
    )  # fmt: skip
    assert not info["missing_keys"], f"missing: {sorted(info['missing_keys'])}"
    widened(model)
    held = {value.data_ptr() for value in model.state_dict().values()}
    assert len(held) == len(tensors), f"{name}: {len(tensors)} tensors, the model has {len(held)}"
    if divisors is not None:
        model.model.rotary_emb.inv_freq /= divisors
    if keys["tokenizer.ggml.model"] != "none":
        same_words(folder, name, keys)
    return model.eval()


def same_words(folder: Path, name: str, keys: dict[str, Any]) -> None:
    """The file's tokenizer cuts text as the folder's does, and begins and ends it alike."""
    ours, theirs = tf.AutoTokenizer.from_pretrained(folder), tf.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    for text in TEXTS:
        wanted = ours(text, add_special_tokens=False).input_ids
        found = theirs(text, add_special_tokens=False).input_ids
        assert found == wanted, f"the tokenizer cuts {text!r} into {found}, not {wanted}"
    around, bare = ours("a").input_ids, ours("a", add_special_tokens=False).input_ids
    begin = [keys["tokenizer.ggml.bos_token_id"]] if keys["tokenizer.ggml.add_bos_token"] else []
    end = [keys["tokenizer.ggml.eos_token_id"]] if keys["tokenizer.ggml.add_eos_token"] else []
    assert around == begin + bare + end, f"a text is put between {begin} and {end}, not as in {around}"


def seeing(folder: Path, language: Any, name: str = "mmproj-model.gguf") -> Any:
    """A LLaVA of that decoder and the tower and projector of the second file."""
    keys, tensors = read(folder / name)
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    vision = {key.removeprefix("clip.vision."): value for key, value in keys.items()}
    assert keys["clip.projector_type"] == "mlp"
    tower = tf.CLIPVisionConfig(
        hidden_size=vision["embedding_length"], intermediate_size=vision["feed_forward_length"],
        num_hidden_layers=vision["block_count"], num_attention_heads=vision["attention.head_count"],
        image_size=vision["image_size"], patch_size=vision["patch_size"],
        layer_norm_eps=vision["attention.layer_norm_epsilon"],
        hidden_act="gelu" if keys["clip.use_gelu"] else "quick_gelu",
    )  # fmt: skip
    config = tf.LlavaConfig(
        vision_config=tower, text_config=language.config, image_token_index=said["image_token_index"],
        vision_feature_layer=vision["feature_layer"][0],
    )  # fmt: skip
    model = tf.LlavaForConditionalGeneration(config).float().eval()
    made = {path_of(one): value.to(served(folder)).float() for one, value in tensors.items()}
    lost = model.model.load_state_dict(made, strict=False)
    unread = [one for one in lost.missing_keys if "language_model" not in one and "post_layernorm" not in one]
    assert not unread, f"missing: {unread}"
    assert not lost.unexpected_keys, f"left over: {lost.unexpected_keys}"
    model.model.language_model, model.lm_head = language.model, language.lm_head
    return model


def path_of(name: str) -> str:
    """Where a tensor of the second file belongs in the library's LLaVA."""
    parts = name.split(".")
    if parts[0] == "mm":
        return f"multi_modal_projector.{JOIN[parts[1]]}.{parts[2]}"
    layer = f"encoder.layers.{parts[2]}." if parts[1] == "blk" else ""
    rest = parts[3:] if layer else parts[1:]
    return "vision_tower." + layer + ".".join([EYES[rest[0]], *rest[1:]])


def open_folder(folder: Path) -> Any:
    """The decoder alone, or the whole where there is a second file."""
    language = decoder(folder)
    return asked(seeing(folder, language) if (folder / "mmproj-model.gguf").is_file() else language)


if __name__ == "__main__":
    main(open_folder)
