"""A small LLaVA, trained by us, on pictures whose answer sits in few patches among many that repeat.

A picture is a grid of patches. A few hold an object: a key and a value, each a pattern of pixels; all others are one
background with a little noise. A prompt is a key, the picture, and a token that asks; the answer is the value of that
key in the picture. Values are drawn at random, so that without the picture nothing beats chance. The key stands before
the picture and cannot see it, so the asking token must read the key in one layer and the picture in a later one.

``python tests/tokens/toy.py`` trains it again (minutes on one core) and writes toy.safetensors, which the tests read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaConfig, LlavaForConditionalGeneration

from trimtab import anatomy
from trimtab.anatomy.loop import prefill
from trimtab.core.keep import Keep

SIDE, PATCH = 7, 2
PATCHES = SIDE * SIDE
KEYS, VALUES, OBJECTS = 6, 4, 4
CHANNELS = KEYS + VALUES + 2
BEGIN, ASK, IMAGE, FIRST_KEY, FIRST_VALUE = 0, 1, 2, 3, 3 + KEYS
WORDS = FIRST_VALUE + VALUES
FILE = Path(__file__).with_name("toy.safetensors")


@dataclass(frozen=True)
class Questions:
    """``batch`` as a processor makes it, and the word that answers each row (b,)."""

    batch: dict[str, Tensor]
    answer: Tensor


def draw(count: int, copies: tuple[int, int], generator: torch.Generator) -> Questions:
    """Pictures of ``OBJECTS`` objects, each in ``copies[0]`` to ``copies[1]`` patches, and one question for each."""
    values = torch.randint(VALUES, (count, KEYS), generator=generator)
    shown = torch.rand(count, KEYS, generator=generator).argsort(1)[:, :OBJECTS]
    times = torch.randint(copies[0], copies[1] + 1, (count, OBJECTS), generator=generator)
    places = torch.rand(count, PATCHES, generator=generator).argsort(1)
    patches = torch.zeros(count, PATCHES, CHANNELS)
    patches[:, :, -2] = 1.0
    for row in range(count):
        held = shown[row].repeat_interleave(times[row])
        look = torch.cat([F.one_hot(held, KEYS), F.one_hot(values[row, held], VALUES)], 1).float()
        patches[row, places[row, : len(held)]] = F.pad(look, (0, 2))
    patches += 0.05 * torch.randn(patches.shape, generator=generator)
    pixels = patches.view(count, SIDE, SIDE, 3, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
    asked = shown[:, 0]
    ids = torch.tensor([[BEGIN, BEGIN] + [IMAGE] * PATCHES + [ASK]]).repeat(count, 1)
    ids[:, 1] = FIRST_KEY + asked
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": pixels.reshape(count, 3, SIDE * PATCH, SIDE * PATCH),
    }
    return Questions(batch, FIRST_VALUE + values.gather(1, asked[:, None])[:, 0])


def build() -> LlavaForConditionalGeneration:
    vision = {
        "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 1, "image_size": SIDE * PATCH, "patch_size": PATCH,
    }  # fmt: skip
    text = {
        "model_type": "llama", "vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 128, "tie_word_embeddings": False,
    }  # fmt: skip
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision, text_config=text, image_token_index=IMAGE, image_seq_length=PATCHES,
            vision_feature_layer=-2, tie_word_embeddings=False,
        )
    )  # fmt: skip


@torch.no_grad()
def seed_features(model: LlavaForConditionalGeneration) -> None:
    """Start from features: each pixel of a patch gets its own channel, and the word for a key that of its pixel."""
    tower, joint = model.model.vision_tower, model.model.multi_modal_projector
    for value in (*tower.embeddings.parameters(), *joint.parameters()):
        value.zero_()
    tower.embeddings.patch_embedding.weight.flatten(1)[:CHANNELS] = torch.eye(CHANNELS)
    joint.linear_1.weight[:CHANNELS, :CHANNELS] = torch.eye(CHANNELS)
    joint.linear_1.bias[:CHANNELS] = -1.0
    joint.linear_2.weight[:CHANNELS, :CHANNELS] = torch.eye(CHANNELS)
    words = model.model.language_model.embed_tokens.weight
    words[FIRST_KEY : FIRST_KEY + KEYS, :CHANNELS] = 2 * torch.eye(KEYS, CHANNELS)


def train(steps: int, rows: int = 64, rate: float = 3e-3, seed: int = 0) -> LlavaForConditionalGeneration:
    """AdamW, warm-up and cosine, objects of 1 to 4 copies. Stops early after 10 batches without a mistake."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = build()
    seed_features(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    faultless = 0
    for step in range(steps):
        asked = draw(rows, (1, 4), generator)
        logits = model(**asked.batch, logits_to_keep=1).logits[:, -1]
        loss = F.cross_entropy(logits, asked.answer)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        share = (logits.argmax(-1) == asked.answer).float().mean().item()
        faultless = faultless + 1 if share == 1.0 else 0
        if step % 20 == 19:
            print(f"step {step + 1} loss {loss.item():.3f} right {share:.3f}", flush=True)
        if faultless == 10:
            break
    return model.eval()


def trained() -> LlavaForConditionalGeneration:
    """The model as ``train`` left it."""
    model = build().eval()
    model.load_state_dict(load_file(FILE), strict=True)
    return model


@torch.no_grad()
def right(
    model: LlavaForConditionalGeneration, asked: Questions, policies: tuple[Keep, ...] = (), rows: int = 100
) -> float:
    """The share of questions that are answered right through our loop under ``policies``."""
    body = anatomy.of(model)
    found = []
    for start in range(0, len(asked.answer), rows):
        batch = {name: value[start : start + rows] for name, value in asked.batch.items()}
        found.append(prefill(body, batch, policies, logits_to_keep=1).logits[:, -1].argmax(-1))
    return (torch.cat(found) == asked.answer).float().mean().item()


if __name__ == "__main__":
    made = train(2000)
    save_file({name: value.contiguous() for name, value in made.state_dict().items()}, FILE)
