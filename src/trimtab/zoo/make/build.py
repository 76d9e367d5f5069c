"""The parts of ``builtin:easyvqa-llava`` before training: tokenizer, processor and a LLaVA at random weights."""

from __future__ import annotations

import random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from trimtab.data import easyvqa, grid

PAD, BOS, EOS, IMAGE = "<pad>", "<s>", "</s>", "<image>"
CANVAS, PATCH, VOCABULARY = 128, 8, 448
# "<image>\nQUESTION\nANSWER</s>", and the next turn follows on the same pattern without an image.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>\n{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '\n' }}{% else %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)


def corpus(collages: int = 2000) -> list[str]:
    """The questions and answers of the train split and of ``collages`` training collages."""
    rng = random.Random(0)
    lines = [f"{question}\n{given}" for question, given, _ in easyvqa.questions("train")]
    for index in range(collages):
        seen = grid.collage("train", index).seen
        lines += [f"{question}\n{given}" for _, question, given in grid.pose(seen, 8, rng)]
    return lines


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of at most 512 tokens: any text can be written, and the training words are one token each."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS, IMAGE],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus(), trainer)
    bpe.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bpe.token_to_id(BOS))])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def processor() -> LlavaProcessor:
    """Resize to 128 x 128 (bicubic, PIL), values in -1..1, 256 ``<image>`` tokens a picture."""
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": CANVAS},
        crop_size={"height": CANVAS, "width": CANVAS},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the CLS token, which the "default" strategy drops again
        chat_template=CHAT_TEMPLATE,
    )


def config(words: PreTrainedTokenizerFast) -> LlavaConfig:
    """CLIP tower 192 wide, 5 layers; Llama decoder 192 wide, 4 layers, 3 query heads on 1 key-value head of 64."""
    vision = CLIPVisionConfig(
        hidden_size=192, intermediate_size=768, num_hidden_layers=5, num_attention_heads=3,
        image_size=CANVAS, patch_size=PATCH,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=3,
        num_key_value_heads=1, head_dim=64, max_position_embeddings=2048, tie_word_embeddings=False,
        pad_token_id=words.pad_token_id, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
    )  # fmt: skip
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=words.convert_tokens_to_ids(IMAGE),
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,  # with -2 the last layer would be dead weight
        image_seq_length=(CANVAS // PATCH) ** 2,
        projector_hidden_act="gelu",
        tie_word_embeddings=False,
        pad_token_id=words.pad_token_id, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
    )  # fmt: skip


def model(words: PreTrainedTokenizerFast, seed: int = 0) -> LlavaForConditionalGeneration:
    """The model at random weights; the tower's positions begin as 2-D sines, so that nearness need not be learnt."""
    torch.manual_seed(seed)
    net = LlavaForConditionalGeneration(config(words))
    embeddings = net.model.vision_tower.embeddings
    side, width = CANVAS // PATCH, embeddings.embed_dim
    with torch.no_grad():
        embeddings.position_embedding.weight[1:] = 0.5 * sines(width, side)
        embeddings.patch_embedding.weight.normal_(std=(3 * PATCH**2) ** -0.5)
    return net


def sines(width: int, side: int) -> torch.Tensor:
    """2-D sine-cosine positions, (side * side, width): a quarter each for sin x, cos x, sin y, cos y."""
    frequency = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    y, x = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")
    waves = [position.reshape(-1, 1) * frequency for position in (x, y)]
    return torch.cat([f(wave) for wave in waves for f in (torch.sin, torch.cos)], 1)
