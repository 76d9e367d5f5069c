"""A tiny Whisper: other numbers of layers and heads on either side, and spectrograms of the encoder's length."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel, WhisperConfig, WhisperForConditionalGeneration

from trimtab.anatomy.base import positions_of
from trimtab.anatomy.tiny.base import END, PAD, VOCABULARY, Batch, Padding, Tiny, text_batch

TOKENS, BINS = 20, 8
"""The encoder's, of two frames each; and the bins of a frame."""


def whisper() -> PreTrainedModel:
    return WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=VOCABULARY, num_mel_bins=BINS, d_model=32, encoder_layers=3, encoder_attention_heads=4,
            decoder_layers=2, decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=40,
            max_source_positions=TOKENS, max_target_positions=64, decoder_start_token_id=1, pad_token_id=PAD,
            bos_token_id=1, eos_token_id=END, begin_suppress_tokens=None,
        )
    )  # fmt: skip


def whisper_batch(model: PreTrainedModel, padding: Padding) -> Batch:
    """A spectrogram to each row of words; positions as ``generate`` counts them."""
    words = text_batch(model, padding)
    valid = words["attention_mask"].bool()
    made = {f"decoder_{name}": value for name, value in words.items()}
    features = torch.randn(len(valid), BINS, 2 * TOKENS)
    return made | {"decoder_position_ids": positions_of(valid), "input_features": features}


MODELS = {"whisper": Tiny(whisper, whisper_batch, decodes=False, mask="decoder_attention_mask")}
