"""Sensitivity: gradients at every block against finite differences of the library's own forward, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from trimtab import anatomy
from trimtab.anatomy import tiny
from trimtab.anatomy.vlm import owned
from trimtab.core.errors import Anomaly, Refused
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.stats import IMAGE, KINDS, TEXT
from trimtab.run import sensitivity

STEP = 1e-4


class Norm(nn.Module):
    """RMSNorm in float64; the library's own goes by way of float32."""

    def __init__(self, old: nn.Module) -> None:
        super().__init__()
        self.weight, self.eps = old.weight, old.variance_epsilon

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight


def model64(seed: int = 0) -> tuple[PreTrainedModel, dict[str, Tensor]]:
    model, batch = tiny.make("llava", "left", seed)
    model = model.double()
    for name, module in list(model.named_modules()):
        if hasattr(module, "variance_epsilon"):
            model.set_submodule(name, Norm(module))
    return model, {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}


def labelled(batch: dict[str, Tensor], last: int = 3) -> Tensor:
    """The last words of each row are its answer; of the first row one fewer."""
    labels = torch.full_like(batch["input_ids"], -1)
    labels[:, -last - 1 : -1] = batch["input_ids"][:, -last:]
    labels[0, -last - 1] = -1
    return labels


def loss(model: PreTrainedModel, batch: dict[str, Tensor], labels: Tensor) -> float:
    logits = model(**batch).logits
    return float(F.cross_entropy(logits[labels >= 0], labels[labels >= 0], reduction="sum"))


@torch.no_grad()
def differences(model: PreTrainedModel, batch: dict[str, Tensor], labels: Tensor, block: int) -> Tensor:
    """dL/dh of block ``block`` by central differences, one number of h after the other, through the library alone."""
    layer = model.model.language_model.layers[block]
    shape = (*batch["input_ids"].shape, model.config.text_config.hidden_size)
    found = torch.zeros(shape, dtype=torch.float64)
    moved = torch.zeros_like(found)
    hook = layer.register_forward_hook(lambda module, args, out: out + moved)
    for place in batch["attention_mask"].nonzero().tolist():
        for channel in range(0, shape[2], 11):
            sides = []
            for step in (STEP, -STEP):
                moved[(*place, channel)] = step
                sides.append(loss(model, batch, labels))
            moved[(*place, channel)] = 0
            found[(*place, channel)] = (sides[0] - sides[1]) / (2 * STEP)
    hook.remove()
    return found


@pytest.mark.parametrize("block", [0, 3])
def test_gradients_are_those_of_finite_differences(block: int) -> None:
    model, batch = model64()
    body = anatomy.of(model)
    batch = {key: value[:2] for key, value in batch.items()}
    labels = labelled(batch)
    expected = differences(model, batch, labels, block)
    found = [gradient for _, gradient in sensitivity.gradients(body, batch, labels)][::-1]
    assert len(found) == 5
    chosen = torch.zeros_like(expected, dtype=torch.bool)
    chosen[..., ::11] = batch["attention_mask"].bool()[..., None]
    got = found[block + 1]
    torch.testing.assert_close(got[chosen], expected[chosen], rtol=1e-6, atol=1e-8)
    assert expected[chosen].abs().max() > 1e-2


def test_the_means_are_over_the_tokens_of_a_kind_and_over_channels() -> None:
    model, batch = model64(1)
    body, labels = anatomy.of(model), labelled(batch)
    found = sensitivity.measure(body, [(batch, labels)])
    image, valid = batch["input_ids"] == tiny.IMAGE_TOKEN, batch["attention_mask"].bool()
    for point, (_, gradient) in zip(range(4, -1, -1), sensitivity.gradients(body, batch, labels), strict=True):
        for kind, where in ((TEXT, valid & ~image), (IMAGE, valid & image)):
            torch.testing.assert_close(found.absolute[point, kind], gradient[where].abs().mean())
            torch.testing.assert_close(found.square[point, kind], gradient[where].square().mean())
    assert found.seen[TEXT] == (valid & ~image).sum()
    assert found.seen[IMAGE] == (valid & image).sum()
    assert found.seen[KINDS.index("padding")] == 0
    assert found.blocks == tuple(f"model.language_model.layers.{i}" for i in range(4))
    assert found.output(1)["image"] == (found.absolute[2, IMAGE].item(), found.square[2, IMAGE].item())


def test_samples_one_by_one_give_what_a_batch_gives() -> None:
    """L is summed for each sample, so that its gradients do not depend on what stands beside it."""
    model, batch = model64(2)
    body, labels = anatomy.of(model), labelled(batch)
    whole = sensitivity.measure(body, [(batch, labels)])
    rooms = (batch["input_ids"] == tiny.IMAGE_TOKEN).sum(1).tolist()
    rows = []
    for i, shown in enumerate(owned([tiny.PATCHES] * len(batch["pixel_values"]), rooms)):
        one = {key: batch[key][i : i + 1] for key in ("input_ids", "attention_mask")}
        rows.append((one | ({"pixel_values": batch["pixel_values"][shown]} if shown else {}), labels[i : i + 1]))
    parts = sensitivity.measure(body, rows)
    torch.testing.assert_close(parts.absolute, whole.absolute, rtol=1e-9, atol=1e-12)
    assert parts.seen == whole.seen


def test_the_head_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model64(3)
    body, labels = anatomy.of(model), labelled(batch, 7)
    whole = sensitivity.measure(body, [(batch, labels)])
    monkeypatch.setattr(sensitivity, "COLUMNS", 2)
    torch.testing.assert_close(sensitivity.measure(body, [(batch, labels)]).absolute, whole.absolute)


def test_no_weight_has_a_gradient_and_nothing_is_changed() -> None:
    model, batch = tiny.make("llava")
    body = anatomy.of(model)
    before = {name: value.clone() for name, value in model.named_parameters()}
    first, second = (sensitivity.measure(body, [(batch, labelled(batch))]) for _ in range(2))
    assert torch.equal(first.absolute, second.absolute)
    assert all(value.grad is None and torch.equal(value, before[name]) for name, value in model.named_parameters())


def made() -> Sensitivity:
    absolute = torch.zeros(4, len(KINDS), dtype=torch.float64)
    absolute[:, TEXT] = torch.tensor([8.0, 4.0, 2.0, 1.0])
    absolute[:, IMAGE] = torch.tensor([4.0, 1.0, 0.5, 0.0])
    return Sensitivity(("m.layers.0", "m.layers.1", "m.layers.10"), absolute, absolute.square(), (5, 6, 0, 0, 0))


def test_the_ratio_is_the_blocks_own_and_the_last_ones_is_at_its_input() -> None:
    found = made()
    assert found.ratio("m.layers.0.self_attn.q_proj") == 0.25
    assert found.ratio("m.layers.1") == 0.25
    assert found.ratio("m.layers.10.mlp.down_proj") == 0.25, "not 0: its keys of image tokens are read"
    assert found.ratio("vision.layers.0") == found.ratio("lm_head") == 1.0
    assert found.ratio("m.layers.1", KINDS.index("video")) == 1.0, "none was seen"
    assert found.weights("m.layers.1").tolist() == [1, 0.25, 1, 1, 1]


def test_it_comes_back_from_a_journal() -> None:
    found = made()
    again = Sensitivity.of(found.row())
    assert again.row() == found.row()
    assert torch.equal(again.absolute, found.absolute)


def test_an_encoder_is_refused_and_a_loss_that_reaches_nothing_is_an_anomaly() -> None:
    model, batch = tiny.make("bert")
    with pytest.raises(Refused, match="does not generate text"):
        sensitivity.measure(anatomy.of(model), [(batch, batch["input_ids"])])
    model, batch = tiny.make("llava")
    with pytest.raises(Anomaly, match="above 0"):
        sensitivity.measure(anatomy.of(model), [(batch, torch.full_like(batch["input_ids"], -1))])
