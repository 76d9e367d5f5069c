"""Blocks and orders of GGUF, number by number, against the format's own package and slow references."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import untested
from trimtab.core.weight import Quantized
from trimtab.export.gguf import blocks, language

untested.need("gguf")
import gguf  # noqa: E402

Turn = Callable[[torch.Tensor], torch.Tensor]


def grid(bits: int, group: int, zero: str, dtype: torch.dtype, seed: int) -> Quantized:
    """Random codes, scales of either sign, and zeros: none, any, or one for all."""
    made = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**bits, (5, 192), generator=made).to(torch.uint8)
    scale = torch.randn(5, 192 // group, generator=made).to(dtype)
    zeros = {"none": None, "any": torch.randint(0, 2**bits, scale.shape, generator=made).to(torch.uint8),
             "middle": torch.full(scale.shape, 2 ** (bits - 1), dtype=torch.uint8)}[zero]  # fmt: skip
    return Quantized.of(codes, scale, zeros, bits)


def exact(w: Quantized) -> torch.Tensor:
    """(code - zero) * scale, one element at a time in float64."""
    from trimtab.core.pack import unpack

    codes = unpack(w.codes, w.bits)
    found = torch.empty(w.shape, dtype=torch.float64)
    for row in range(w.shape[0]):
        for column in range(w.shape[1]):
            group = column // w.group_size
            zero = 2 ** (w.bits - 1) if w.zero is None else int(w.zero[row, group])
            found[row, column] = (int(codes[row, column]) - zero) * float(w.scale[row, group])
    return found


@settings(max_examples=40, deadline=None)
@given(
    bits=st.sampled_from([2, 3, 4, 8]), group=st.sampled_from([32, 64, 96, 192]),
    zero=st.sampled_from(["none", "any", "middle"]), dtype=st.sampled_from([torch.bfloat16, torch.float16]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_the_package_reads_back_every_weight_exactly(
    bits: int, group: int, zero: str, dtype: torch.dtype, seed: int
) -> None:
    w = grid(bits, group, zero, dtype, seed)
    kind = blocks.kind_of(w)
    if kind is None:
        assert (bits, zero) == (8, "any")
        return
    data = blocks.bytes_of(w, kind).numpy()
    count, width = blocks.BYTES[kind]
    assert data.shape == (5, 192 // count * width)
    assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]] == (count, width)
    read = torch.from_numpy(gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind]).copy())
    assert torch.equal(read.double(), exact(w))


@pytest.mark.parametrize(
    ("bits", "zero", "kind"),
    [(2, "any", "Q4_0"), (3, "any", "Q4_0"), (4, "none", "Q4_0"), (4, "middle", "Q4_0"), (4, "any", "Q5_0"),
     (8, "none", "Q8_0"), (8, "middle", "Q8_0"), (8, "any", None)],
)  # fmt: skip
def test_the_smallest_type_is_taken(bits: int, zero: str, kind: str | None) -> None:
    assert blocks.kind_of(grid(bits, 32, zero, torch.bfloat16, 0)) == kind


def test_a_zero_whose_product_is_a_float16_is_written_as_the_least_value() -> None:
    w = grid(4, 32, "any", torch.bfloat16, 1)
    assert w.zero is not None
    w.zero[:] = w.zero & 12 | 4  # 4 or 12: two bits of mantissa, with the scale's eight ten
    assert blocks.kind_of(w) == "Q4_1"
    read = gguf.quants.dequantize(blocks.bytes_of(w, "Q4_1").numpy(), gguf.GGMLQuantizationType.Q4_1)
    assert torch.equal(torch.from_numpy(read.copy()).double(), exact(w))
    w.zero[2, 3], w.scale[2, 3] = 13, 1.9921875  # 13 * 255 / 128 needs twelve bits
    assert blocks.kind_of(w) == "Q5_0"


def test_numbers_that_float16_does_not_hold() -> None:
    assert blocks.exact16(torch.tensor([1.5, 2**-24, -65504.0]).bfloat16().float()[:2])
    for value in (1e6, 2**-26, 1 + 2**-12, float("nan")):
        assert not blocks.exact16(torch.tensor([1.0, value]))


def test_what_the_library_turns_together_becomes_neighbours() -> None:
    """With the rows in that order, turning neighbours gives the scores that turning halves gave."""
    heads, width, tokens = 3, 8, 5
    torch.manual_seed(0)
    matrix, x = torch.randn(heads * width, 16, dtype=torch.float64), torch.randn(tokens, 16, dtype=torch.float64)
    angle = torch.arange(tokens)[:, None] * 10.0 ** -torch.arange(width // 2)
    cos, sin = angle.cos().double(), angle.sin().double()

    def halves(y: torch.Tensor) -> torch.Tensor:
        first, second = y[..., : width // 2], y[..., width // 2 :]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    def pairs(y: torch.Tensor) -> torch.Tensor:
        first, second = y[..., 0::2], y[..., 1::2]
        return torch.stack([first * cos - second * sin, second * cos + first * sin], -1).flatten(-2)

    def scores(rows: torch.Tensor, turn: Turn) -> torch.Tensor:
        y = turn((x @ rows.T).view(tokens, heads, width).transpose(0, 1))
        return y @ y.transpose(1, 2)

    order = language.neighbours(heads * width, heads)
    assert sorted(order.tolist()) == list(range(heads * width))
    assert torch.allclose(scores(matrix[order], pairs), scores(matrix, halves))
    assert not torch.allclose(scores(matrix, pairs), scores(matrix, halves))


def test_divisors_of_rotary_frequencies_are_the_librarys() -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    from trimtab.load.gguf_config import frequency_divisors

    rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}  # fmt: skip
    config = LlamaConfig(
        hidden_size=256, num_attention_heads=2, rope_parameters=dict(rope), max_position_embeddings=131072
    )
    theirs, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = torch.tensor([5e5 ** (-2 * i / 128) for i in range(64)])
    found = frequency_divisors(rope, 128)
    assert torch.allclose(plain / found, theirs, rtol=1e-5)
    assert float(found.max()) == 8
    assert float(found.min()) == 1
    assert ((found > 1) & (found < 8)).any()
