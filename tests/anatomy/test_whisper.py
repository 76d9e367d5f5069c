"""Whisper with the library's own processor on a sine: loop, library and artifact agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from oracle import Batch, close, make, untouched
from trimtab import anatomy as anatomies
from trimtab import gate
from trimtab.anatomy import tiny
from trimtab.anatomy.loop import prefill
from trimtab.anatomy.slots import Slots
from trimtab.core.errors import BadInput, Refused
from trimtab.core.fit import Site
from trimtab.core.stats import AUDIO, PADDING, TEXT
from trimtab.load import Loaded, artifact, open_source
from trimtab.load.synthetic import SENTENCES
from trimtab.quantize import RTN
from trimtab.tokens import DivPrune

END, START = "<|endoftext|>", "<|startoftranscript|>"
SPECIAL = (END, START, "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>",
           "<|nospeech|>", "<|notimestamps|>")  # fmt: skip
RATE, SECONDS = 16_000, 1


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def processor() -> WhisperProcessor:
    """An extractor for one second, and a tokenizer that knows the gate's sentences by their letters and pairs."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=list(SPECIAL), show_progress=False)
    bare.train_from_iterator(SENTENCES, trainer)
    learned = json.loads(bare.to_str())["model"]
    words = WhisperTokenizer(
        vocab=learned["vocab"], merges=[tuple(m) for m in learned["merges"]], pad_token=END,
        language="english", task="transcribe", additional_special_tokens=list(SPECIAL),
    )  # fmt: skip
    return WhisperProcessor(WhisperFeatureExtractor(feature_size=16, chunk_length=SECONDS), words)


def folder(path: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A small model with its processor, as the hub lays it out."""
    made = processor()
    words = made.tokenizer
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(words), num_mel_bins=16, d_model=32, encoder_layers=2, encoder_attention_heads=4,
            decoder_layers=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
            max_source_positions=50, max_target_positions=300, pad_token_id=words.pad_token_id,
            decoder_start_token_id=words.convert_tokens_to_ids(START), bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id, begin_suppress_tokens=None,
        )
    )  # fmt: skip
    tiny.randomize(model)
    model.to(dtype).save_pretrained(path)
    made.save_pretrained(path)
    return path


def heard(loaded: Loaded) -> Batch:
    """Two sines of different length, and a transcript of each, padded."""
    tones = [np.sin(2 * np.pi * pitch * np.arange(length) / RATE).astype(np.float32)
             for pitch, length in ((440, RATE), (220, RATE // 3))]  # fmt: skip
    sound = loaded.processor(audio=tones, sampling_rate=RATE, return_tensors="pt")
    words = loaded.tokenizer(["three of them came back", "yes"], padding=True, return_tensors="pt")
    assert int(words["attention_mask"].sum()) < words["attention_mask"].numel()
    return {"input_features": sound["input_features"].to(loaded.library.dtype),
            "decoder_input_ids": words["input_ids"], "decoder_attention_mask": words["attention_mask"]}  # fmt: skip


def test_a_sine_with_its_transcript_answers_in_the_loop_as_in_the_library(tmp_path: Path) -> None:
    loaded = open_source(folder(tmp_path))
    assert type(loaded.processor) is WhisperProcessor
    assert type(loaded.tokenizer) is WhisperTokenizer
    assert loaded.image_backend is None
    batch = heard(loaded)
    prompt = loaded.tokenizer.convert_ids_to_tokens(batch["decoder_input_ids"][0, :4].tolist())
    assert prompt == [START, "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    wanted = untouched(loaded.library)(**batch).logits
    valid = batch["decoder_attention_mask"].bool()
    close(prefill(loaded.anatomy, batch).logits[valid], wanted[valid])
    other = batch | {"input_features": batch["input_features"].flip(0)}
    assert float((prefill(loaded.anatomy, other).logits - wanted)[valid].abs().max()) > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_artifact_with_its_processor_is_bit_equal_and_passes_the_gate(dtype: torch.dtype, tmp_path: Path) -> None:
    loaded = open_source(folder(tmp_path / "source", dtype))
    for name, host in artifact.hosts(loaded.anatomy):
        if loaded.anatomy.part_of(name) in ("audio", "language"):
            host.w = RTN(bits=4, group_size=32)(host.w, Site(name, host.w.dense))
    batch = heard(loaded)
    artifact.write(tmp_path / "out", loaded, {})
    again = open_source(tmp_path / "out")
    assert torch.equal(again.model(**batch).logits, loaded.model(**batch).logits)
    assert again.library.proj_out.w is again.library.model.decoder.embed_tokens.w
    for name, value in heard(again).items():
        assert torch.equal(value, batch[name]), name
    result = gate.check(tmp_path / "out")
    assert result.passed, result.text()
    assert result.samples == 2


def test_the_library_s_generate_runs_on_hosts_as_on_its_own_layers(tmp_path: Path) -> None:
    loaded = open_source(folder(tmp_path))
    features = heard(loaded)["input_features"]
    wanted = untouched(loaded.library).generate(features, max_new_tokens=8, do_sample=False)
    anatomy = loaded.anatomy
    assert torch.equal(loaded.model.generate(features, max_new_tokens=8, do_sample=False), wanted)
    assert not anatomy.decodes
    with pytest.raises(Refused, match="'whisper' does not"):
        prefill(anatomy, heard(loaded), [DivPrune(keep=0.5).policy()])
    with pytest.raises(BadInput, match="'whisper' does not generate text in the loop"):
        anatomy.words(torch.ones(1, 1), torch.zeros(1, 1), torch.ones(1, 1).bool())


def test_kinds_are_sound_in_the_encoder_and_words_behind_it() -> None:
    model, batch = make("whisper", "right")
    anatomy = anatomies.of(model)
    stream = anatomy.start(batch)
    for block in anatomy.blocks():
        part = "audio" if "encoder" in block.name else "language"
        assert block.part == part
        wanted = {AUDIO} if part == "audio" else {TEXT, PADDING}
        assert set(stream.kinds.unique().tolist()) == wanted
        stream = block(stream)
    assert [block.part for block in anatomy.blocks()] == ["audio"] * 3 + ["language"] * 2
    assert torch.equal(stream.kinds == PADDING, batch["decoder_attention_mask"] == 0)
    assert anatomy.pictures(batch) == []


def test_positions_are_counted_where_none_are_given() -> None:
    model, batch = make("whisper", "left")
    oracle, anatomy = untouched(model), anatomies.of(model)
    wanted, valid = oracle(**batch).logits, batch["decoder_attention_mask"].bool()
    batch.pop("decoder_position_ids")
    close(prefill(anatomy, batch, slots=Slots()).logits[valid], wanted[valid])


def test_batches_that_it_cannot_read_are_refused_by_what_is_wrong() -> None:
    model, batch = make("whisper")
    anatomy = anatomies.of(model)
    without = {name: value for name, value in batch.items() if name != "decoder_input_ids"}
    with pytest.raises(BadInput, match="decoder_input_ids is missing"):
        anatomy.start(without)
    with pytest.raises(BadInput, match=r"input_features: got nothing; accepted: \(batch, mel bins, 40\)"):
        anatomy.start({name: value for name, value in batch.items() if name != "input_features"})
    with pytest.raises(BadInput, match=r"input_features: got shape \(4, 8, 39\)"):
        anatomy.start(batch | {"input_features": batch["input_features"][..., 1:]})
    with pytest.raises(BadInput, match="decoder_attention_mask: got shape"):
        anatomy.start(batch | {"decoder_attention_mask": batch["decoder_attention_mask"][:, 1:]})
