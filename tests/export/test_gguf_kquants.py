"""k-quants, number by number: what the format's own package reads, and how near that is to the artifact."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import untested
from trimtab.core.pack import unpack
from trimtab.core.weight import Quantized
from trimtab.export.gguf import blocks, kbytes, kquant, kround
from trimtab.export.gguf.kquant import GRIDS, Grid, KQuant, grid_for

untested.need("gguf")
import gguf  # noqa: E402

WIDTH = 512


def random(
    bits: int, group: int, zeros: bool, seed: int, dtype: torch.dtype = torch.bfloat16, width: int = WIDTH
) -> Quantized:
    """Random codes and zeros; scales of either sign, the largest about ten times the smallest."""
    made = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**bits, (7, width), generator=made).to(torch.uint8)
    scale = 0.02 * (0.1 + torch.rand(7, width // group, generator=made))
    scale = (scale * torch.randn(scale.shape, generator=made).sign()).to(dtype)
    zero = torch.randint(0, 2**bits, scale.shape, generator=made).to(torch.uint8) if zeros else None
    return Quantized.of(codes, scale, zero, bits)


def numbers(w: Quantized) -> torch.Tensor:
    """(code - zero) * scale in float64."""
    codes = unpack(w.codes, w.bits).double().unflatten(1, (w.scale.shape[1], -1))
    zero = 2 ** (w.bits - 1) if w.zero is None else w.zero.double()[..., None]
    return ((codes - zero) * w.scale.double()[..., None]).flatten(1)


def read(w: KQuant) -> torch.Tensor:
    """By the package, from our bytes."""
    kind = gguf.GGMLQuantizationType[w.grid.kind]
    data = kbytes.bytes_of(w).numpy()
    count, width = blocks.BYTES[w.grid.kind]
    assert gguf.GGML_QUANT_SIZES[kind] == (count, width)
    assert data.shape == (w.shape[0], w.shape[1] // count * width)
    return torch.from_numpy(gguf.quants.dequantize(data, kind).copy())


def chosen(w: Quantized) -> Grid:
    grid = grid_for(w)
    assert grid is not None
    return grid


def errors(found: torch.Tensor, w: Quantized) -> torch.Tensor:
    """Sum of squares over each 256 weights."""
    return (found.double() - numbers(w)).square().unflatten(1, (-1, 256)).sum(2)


CASES = [(4, True), (3, False), (2, True), (2, False)]


@settings(max_examples=40, deadline=None)
@given(
    case=st.sampled_from(CASES), group=st.sampled_from([32, 64, 128, 256, 512]), seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.bfloat16, torch.float16]),
)  # fmt: skip
def test_the_package_reads_what_we_say_we_wrote(
    case: tuple[int, bool], group: int, seed: int, dtype: torch.dtype
) -> None:
    w = random(case[0], group, case[1], seed, dtype)
    made = kround.fit(w, chosen(w))
    found = read(made)
    assert torch.equal(found, made.dense(torch.float32))
    assert torch.equal(found.to(dtype), made.dense(dtype))
    exact = numbers(w)
    assert made.off == pytest.approx(float((found.double() - exact).norm() / exact.norm()), rel=1e-4)
    assert made.off < {4: 0.02, 3: 0.02, 2: 0.1}[w.bits]
    step = w.scale.double().abs().repeat_interleave(group, 1)
    assert bool(((found.double() - exact).abs() <= {4: 0.6, 3: 0.3, 2: 0.7}[w.bits] * step.amax(1, True)).all())
    if group % 256 == 0:
        assert torch.equal(found.double(), exact)
        assert made.off == 0


@pytest.mark.parametrize(("bits", "zeros"), CASES)
def test_the_search_is_never_worse_than_the_greatest_number_for_the_greatest_scale(
    bits: int, zeros: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = []
    for seed in range(6):
        w = random(bits, 32, zeros, seed)
        grid = chosen(w)
        found = errors(read(kround.fit(w, grid)), w)
        with monkeypatch.context() as patch:
            patch.setattr(kround, "searched", kround.largest)
            plain = errors(read(kround.fit(w, grid)), w)
        assert bool((found <= plain * (1 + 1e-5)).all())
        better.append(found.sum() / plain.sum())
    assert sum(better) / len(better) < 0.75, "the search finds something"


def test_the_search_finds_the_least_squares_of_a_slow_reference() -> None:
    """Among all units that take the greatest target to some number: never above the best of those."""
    torch.manual_seed(0)
    target, weight = torch.rand(3, 2, 8) * 0.01, torch.rand(3, 2, 8)
    unit, times = kround.searched(target, weight, GRIDS[4])
    for row in range(3):
        for block in range(2):
            t, a = target[row, block], weight[row, block]
            found = float((a * (t - unit[row, block].float() * times[row, block]).square()).sum())
            best = float("inf")
            for number in range(1, 64):
                u = float((t.max() / number).half())
                best = min(best, sum(
                    float(a[j]) * min((float(t[j]) - u * n) ** 2 for n in range(64)) for j in range(8)
                ))  # fmt: skip
            assert found <= best * (1 + 1e-4)


def whole(bits: int, zeros: bool, top: int) -> Quantized:
    """Scales that are whole multiples of one number for 256 inputs."""
    w = random(bits, 32, zeros, 3)
    times = torch.randint(1, top + 1, (7, 2, 8)).float()
    times[:, :, 0] = top
    unit = torch.tensor([0.75, 1.25]).mul(2**-9)[None, :, None]
    w.scale = (times * unit).flatten(1).bfloat16()
    return w


@pytest.mark.parametrize(("bits", "zeros", "top"), [(4, True, 4), (3, False, 31), (3, False, 5), (2, True, 5)])
def test_what_lies_on_the_grid_is_exact(bits: int, zeros: bool, top: int) -> None:
    torch.manual_seed(1)
    w = whole(bits, zeros, top)
    made = kround.fit(w, chosen(w))
    assert made.off == 0
    assert torch.equal(read(made).double(), numbers(w))


@pytest.mark.parametrize(
    ("bits", "zeros", "kind"),
    [(2, True, "Q2_K"), (2, False, "Q2_K"), (3, False, "Q3_K"), (3, True, None), (4, True, "Q4_K"), (4, False, None),
     (8, False, None), (8, True, None)],
)  # fmt: skip
def test_the_nearest_that_takes_less_room_is_chosen(bits: int, zeros: bool, kind: str | None) -> None:
    grid = grid_for(random(bits, 32, zeros, 0))
    assert (grid.kind if grid else None) == kind
    assert grid_for(random(bits, 32, zeros, 0, width=640)) is None, "256 does not divide it"
    assert grid_for(random(bits, 16, zeros, 0)) is None, "refused as ever"


@pytest.mark.parametrize("bits", [2, 4])
def test_a_grid_upside_down_is_the_same_matrix(bits: int) -> None:
    w = random(bits, 32, True, 0)
    assert w.zero is not None
    top = 2**bits - 1
    turned = Quantized.of(top - unpack(w.codes, bits), -w.scale, top - w.zero, bits)
    assert torch.equal(numbers(turned), numbers(w))
    assert torch.equal(read(kround.fit(turned, chosen(turned))), read(kround.fit(w, chosen(w))))


def test_three_bits_with_zeros_go_where_all_their_levels_are() -> None:
    w = random(3, 32, True, 0)
    assert w.zero is not None
    w.zero[:] = 4
    assert chosen(w).kind == "Q3_K"
    assert torch.equal(read(kround.fit(w, chosen(w))), kround.fit(w, chosen(w)).dense(torch.float32))
    w.zero[3, 5] = 3  # its greatest level is 4
    w.codes[3] = 255
    assert grid_for(w) is None


def test_four_bits_whose_levels_are_those_of_four_stay_exact() -> None:
    w = random(4, 32, True, 0)
    assert w.zero is not None
    w.zero[:] = 8
    assert blocks.kind_of(w) == "Q4_0"
    assert grid_for(w) is None


def test_scales_of_nothing_and_of_almost_nothing() -> None:
    for bits, zeros in CASES:
        w = random(bits, 32, zeros, 0)
        w.scale[0] = 0
        w.scale[1] = 2**-24
        w.scale[2, 3:] = 0
        made = kround.fit(w, chosen(w))
        found = read(made)
        assert torch.equal(found, made.dense(torch.float32))
        assert bool((found[0] == 0).all())
        assert bool(found.isfinite().all())
    w.scale[:] = 0
    assert kround.fit(w, chosen(w)).off == 0


def test_a_matrix_in_parts_is_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    w = random(4, 64, True, 5)
    at_once = kround.fit(w, GRIDS[4])
    for module, name in ((kround, "AT_ONCE"), (kbytes, "ROWS"), (kquant, "ROWS")):
        monkeypatch.setattr(module, name, 3)
    parts = kround.fit(w, GRIDS[4])
    assert torch.equal(read(parts), read(at_once))
    assert torch.equal(parts.dense(torch.bfloat16), at_once.dense(torch.bfloat16))
