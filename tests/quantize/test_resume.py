"""Interrupted half way a step goes on at its layer, and ends in the bits of one that was not interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.core.fit import Fit
from trimtab.core.linear import Host
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.stats import IMAGE, KINDS
from trimtab.core.weight import Weight
from trimtab.quantize import AWQ, FP4, GPTQ, MBQ, MRGPTQ, NF4, RTN, W8A8, FineQuant, QuantEase, SmoothQuant
from trimtab.run.layers import Layers
from trimtab.run.steps import rounded
from trimtab.run.walk import LayerReport, walk
from trimtab.run.weigh import maker

LOOKS = 15
"""Batches: more image tokens than a sample of rows keeps."""


class Stopped(Exception):
    pass


def seeing() -> tuple[Any, list[dict[str, Tensor]]]:
    model, batch = tiny.make("llava")
    torch.manual_seed(1)
    return anatomies.of(model), [batch] + [tiny.batch("llava", model) for _ in range(LOOKS - 1)]


def hosts(anatomy: Any) -> dict[str, Host]:
    return dict(anatomy.linears()) | dict(anatomy.embeddings())


def trim(anatomy: Any, batches: list[dict[str, Tensor]], fit: Fit, **more: Any) -> dict[str, LayerReport]:
    """The decoder, its table and its head; gradients of pictures are small, and another share at each block."""
    names = tuple(anatomy.blocks()[index].name for index in anatomy.layers())
    sizes = torch.ones(len(names) + 1, len(KINDS), dtype=torch.float64)
    sizes[:, IMAGE] = 0.1 + 0.05 * torch.arange(len(sizes))
    known = Sensitivity(names, sizes, sizes, (1,) * len(KINDS))
    make = maker(anatomy, fit, "pooled", known)
    found = walk(anatomy, batches, fit, ["language", "embedding", "head"], sensitivity=known, make=make, **more)
    return {report.name: report for report in found}


@pytest.mark.parametrize(
    "fit",
    [GPTQ(3, 8), QuantEase(3, 8, sweeps=1, outliers=0.02), FineQuant(group_size=8), AWQ(3, 8), MBQ(3, 8),
     MRGPTQ("nvfp4"), SmoothQuant(), RTN(3, 8), NF4(8), FP4("nvfp4"), W8A8(), GPTQ(3, 8, rotate=16)],
    ids=lambda fit: fit.CARD.name,
)  # fmt: skip
def test_interrupted_half_way_it_resumes_at_the_layer(fit: Fit, tmp_path: Path) -> None:
    """By the files that a run keeps for each block: what was fitted is not fitted again, and what comes behind it is
    fitted on what it gives, rounded inputs too."""
    whole, batches = seeing()
    expected = trim(whole, batches, fit)
    stored, stop = Layers(tmp_path / "state"), whole.layers().start + 1

    def keep(index: int, reports: list[LayerReport], changed: dict[str, Host]) -> None:
        stored.put(index, {path: host.w for path, host in changed.items()}, [], rounded(half, changed))
        if index == stop:
            raise Stopped

    def done(index: int) -> dict[str, Weight] | None:
        found = stored.get(index)
        return None if found is None else found[0]

    half, batches = seeing()
    with pytest.raises(Stopped):
        trim(half, batches, fit, on_layer=keep)
    rest, batches = seeing()
    again = trim(rest, batches, fit, done=done, inputs=stored.acts)
    assert 0 < len(again) < len(expected)
    assert all(report == expected[name] for name, report in again.items())
    for path, host in hosts(whole).items():
        other = hosts(rest)[path]
        assert host.w.spec() == other.w.spec(), path
        for key, value in host.w.state_dict().items():
            assert torch.equal(value, other.w.state_dict()[key]), path
        assert getattr(host, "acts", None) == getattr(other, "acts", None), path
