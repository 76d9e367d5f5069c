"""DINOv2 is a tower by itself: no words, no head, nothing but pictures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from transformers import Dinov2Config, Dinov2ForImageClassification, Dinov2Model

from oracle import close, make
from trimtab import anatomy as anatomies
from trimtab.anatomy.loop import prefill
from trimtab.core.errors import BadInput, Refused
from trimtab.core.keep import Keep, share
from trimtab.core.stats import IMAGE

both = pytest.mark.parametrize("name", ["dinov2", "dinov2-gated"])


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@both
def test_embed_runs_everything_and_there_are_no_decoder_layers(name: str) -> None:
    model, batch = make(name)
    anatomy = anatomies.of(model)
    assert list(anatomy.layers()) == []
    assert len(anatomy.blocks()) == 4
    stream = anatomy.embed(batch)
    close(anatomy.head(stream), model(**batch).last_hidden_state)
    close(anatomy.head_input(stream)[:, 0], model(**batch).pooler_output)
    assert set(stream.kinds.unique().tolist()) == {IMAGE}
    assert stream.x.shape[:2] == stream.positions.shape == (3, 10)
    assert list(anatomy.embeddings()) == anatomy.idle() == []
    assert {anatomy.part_of(n) for n, _ in anatomy.linears()} == {"vision"}


def test_the_library_s_own_forward_still_takes_other_sizes_and_masks() -> None:
    model, _ = make("dinov2")
    pixels, mask = torch.randn(2, 3, 20, 16), torch.rand(2, 20) < 0.5
    wanted = model(pixels, bool_masked_pos=mask).last_hidden_state
    anatomies.of(model)
    close(model(pixels, bool_masked_pos=mask).last_hidden_state, wanted)


def test_what_the_loop_does_not_take_is_named() -> None:
    model, batch = make("dinov2")
    anatomy = anatomies.of(model)
    with pytest.raises(BadInput, match="bool_masked_pos"):
        prefill(anatomy, {**batch, "bool_masked_pos": torch.zeros(3, 9, dtype=torch.bool)})
    with pytest.raises(BadInput, match="got nothing; accepted for DINOv2: pixel_values alone"):
        prefill(anatomy, {})
    with pytest.raises(BadInput, match="does not generate"):
        anatomy.words(torch.zeros(1, 1).long(), torch.zeros(1, 1).long(), torch.ones(1, 1).bool())
    with pytest.raises(Refused, match="'dinov2'"):
        prefill(anatomy, batch, [Keep(lambda sight: sight.stream.x[..., 0], share(0.5))])
    with pytest.raises(Refused, match="num_return_sequences"):
        anatomy.copies(torch.zeros(1, 1).long(), batch, 2)


@pytest.mark.parametrize("size", [(16, 12), (20, 20), (14, 12)])
def test_pictures_of_another_size_have_stretched_positions(size: tuple[int, int]) -> None:
    """As real processors give them: checkpoints were trained at 518 x 518 and are shown 224 x 224."""
    model, _ = make("dinov2")
    pixels = torch.randn(2, 3, *size)
    wanted = model(pixel_values=pixels).last_hidden_state
    found = prefill(anatomies.of(model), {"pixel_values": pixels}).logits
    close(found, wanted)


def test_a_tower_for_oblong_pictures_is_refused_and_a_task_head_too() -> None:
    config = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "patch_size": 4}
    oblong = anatomies.of(Dinov2Model(Dinov2Config(**config, image_size=[16, 36])).eval())
    with pytest.raises(BadInput, match="image_size: got 16 x 36; accepted: a vision tower for square pictures"):
        prefill(oblong, {"pixel_values": torch.randn(1, 3, 16, 36)})
    with pytest.raises(BadInput, match=r"Dinov2ForImageClassification.*embeddings\..*Dinov2Model"):
        anatomies.of(Dinov2ForImageClassification(Dinov2Config(**config, image_size=12)))
