"""Made tests/data/format-1 once: ``python tests/load/freeze.py tests/data/format-N``. Never run again for a format.

A LLaVA of one vision layer and one decoder layer, linears on a 4-bit grid, half of the image tokens dropped.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from hublike import trim, words
from transformers import CLIPImageProcessorPil, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

from trimtab.anatomy.tiny import randomize
from trimtab.load import artifact, open_source

SIDE, PATCH, IMAGE_TOKEN = 16, 4, 63


def source(folder: Path) -> None:
    """The dense model in the library's layout."""
    torch.manual_seed(1)
    shared = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config={"model_type": "clip_vision_model", **shared, "image_size": SIDE, "patch_size": PATCH},
            text_config={"model_type": "llama", **shared, "num_key_value_heads": 1, "vocab_size": 64, "head_dim": 8},
            image_token_index=IMAGE_TOKEN, vision_feature_layer=-1, vision_feature_select_strategy="default",
            image_seq_length=(SIDE // PATCH) ** 2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    randomize(model)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer = words(folder, image=f"w{IMAGE_TOKEN - 3}")
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )  # fmt: skip
    LlavaProcessor(
        image_processor=pictures, tokenizer=tokenizer, patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip


def main(out: Path) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        source(Path(folder) / "frozen")
        loaded = trim(open_source(Path(folder) / "frozen"), group_size=16)
        print(artifact.write(out, loaded, {"modified": ["rtn on the decoder; divprune keeps half."]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
