"""The table of accelerators: the lecture's ten under its names, every figure dense and with its sheet."""

from __future__ import annotations

import pytest

from trimtab.core.errors import BadInput
from trimtab.measure.accelerators import accelerator, accelerators

# The device table of the lecture: its name, and what of its row is the data sheet's too.
LECTURE = {
    "NVIDIA H100 NVL": ("memory", 94e9), "AMD Radeon Instinct MI300": ("bandwidth", 5.3e12),
    "NVIDIA A100 Tensor Core": ("float32", 19.5e12), "NVIDIA GeForce RTX 4090": ("float32", 82.58e12),
    "NVIDIA Quadro RTX 8000": ("float32", 16.31e12), "NVIDIA RTX A6000": ("float32", 38.71e12),
    "NVIDIA GeForce RTX 3090 Ti": ("float32", 40e12), "NVIDIA GeForce RTX 4070": ("bandwidth", 504.2e9),
    "Google TPU v4 Pod": ("bfloat16", 275e12), "NVIDIA GeForce RTX 3060 Ti": ("float32", 16.2e12),
}  # fmt: skip
# Multiprocessors and clock; a tensor core's operations per multiprocessor and clock are the architecture's.
CHIPS = {
    "RTX 4090": (128, 2.52e9, 512, 2048), "RTX 4070": (46, 2.475e9, 512, 2048), "RTX 3090 Ti": (84, 1.86e9, 512, 2048),
    "RTX 3060 Ti": (38, 1.665e9, 512, 2048), "RTX A6000": (84, 1.8e9, 1024, 2048),
    "RTX 5090": (170, 2.407e9, 512, 2048),
    "Quadro RTX 8000": (72, 1.77e9, 1024, 2048), "T4": (40, 1.59e9, 1024, 2048), "A10": (72, 1.695e9, 1024, 2048),
    "A100": (108, 1.41e9, 2048, 4096), "H100 SXM": (132, 1.83e9, 4096, 8192), "H200": (132, 1.83e9, 4096, 8192),
    "V100": (80, 1.53e9, 1024, None),
}  # fmt: skip


def test_the_ten_of_the_lecture_are_found_by_its_names_and_parts_of_them() -> None:
    for name, (figure, value) in LECTURE.items():
        found = accelerator(name)
        had = found.peaks[figure] if figure in found.peaks else getattr(found, figure)
        assert had == value, name
    for part in ("MI300", "TPU v4", "RTX 4070", "A100", "3090 Ti", "quadro"):
        assert accelerator(part).name
    assert len({accelerator(name).name for name in LECTURE}) == 10


def test_every_row_is_of_sense_and_says_where_it_is_from() -> None:
    every = accelerators()
    assert len({one.name for one in every}) == len(every) > len(LECTURE)
    for one in every:
        assert 4e9 < one.memory < 1e12
        assert 1e11 < one.bandwidth < 1e13
        assert "bfloat16" in one.peaks
        assert list(one.peaks.values()) == sorted(one.peaks.values()), f"{one.name}: fewer bits are not slower"
        assert one.watts is None or 50 < one.watts < 1500
        assert "sheet" in one.source.lower() or "whitepaper" in one.source or "documentation" in one.source, one.name
        assert one.roof().bandwidth(1.0) == one.bandwidth
        assert one.roof().peak("bfloat16") == one.peaks["bfloat16"]


@pytest.mark.parametrize("name", CHIPS)
def test_products_are_dense_by_the_chips_own_arithmetic(name: str) -> None:
    """Multiprocessors x clock x operations a clock; a figure with sparsity would be twice that."""
    units, clock, wide, narrow = CHIPS[name]
    peaks = accelerator(name).peaks
    assert peaks["bfloat16"] == pytest.approx(units * clock * wide, rel=0.01)
    assert ("int8" in peaks) == (narrow is not None)
    if narrow is not None:
        assert peaks["int8"] == pytest.approx(units * clock * narrow, rel=0.01)


def test_where_the_lecture_differs_a_note_says_so() -> None:
    noted = {name for name in LECTURE if "lecture" in accelerator(name).note}
    assert noted == set(LECTURE)


def test_a_name_may_be_a_part_if_there_is_one_such() -> None:
    assert accelerator("h200").name == "NVIDIA H200"
    assert accelerator("nvidia geforce rtx 4090").memory == 24e9
    assert accelerator("a10").name == "NVIDIA A10"  # the word, not the beginning of another
    with pytest.raises(BadInput, match=r"accelerator: got 'h100' .*; accepted: NVIDIA H100 NVL, NVIDIA H100 SXM"):
        accelerator("h100")
    with pytest.raises(BadInput, match=r"accelerator: got 'RTX 4091' \(nearest: 'RTX 4090'\); accepted: "):
        accelerator("RTX 4091")
