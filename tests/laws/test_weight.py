"""Laws of Weight: every node kind, on random tensors, against the plain product, the file and finite differences."""

from __future__ import annotations

from atexit import register
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save, save_file
from torch import Tensor

from trimtab.core.blocks import Blocks, signs
from trimtab.core.build import build
from trimtab.core.codebook import LEVELS, Codebook
from trimtab.core.factors import Diagonal, LowRank
from trimtab.core.joins import Chain, Hadamard, Join, Sum, leaves
from trimtab.core.pack import BITS, pack, period, unpack
from trimtab.core.place import places
from trimtab.core.scales import Scales
from trimtab.core.sparse import FEW, Masked, masked_bits
from trimtab.core.stored import Stored
from trimtab.core.weight import Dense, Quantized, Weight, bits, check_grid, rows, times

OUT, IN, GROUP = 6, 48, 24


def quantized(width: int, symmetric: bool, dtype: torch.dtype) -> Quantized:
    codes = torch.randint(0, 2**width, (OUT, IN), dtype=torch.uint8)
    zero = None if symmetric else torch.randint(0, 2**width, (OUT, IN // GROUP), dtype=torch.uint8)
    return Quantized.of(codes, (torch.rand(OUT, IN // GROUP) + 0.1).to(dtype), zero, width)


def thin(dtype: torch.dtype) -> LowRank:
    return LowRank(torch.randn(OUT, 3).to(dtype), torch.randn(3, IN).to(dtype), 0.5)


def codebook(form: str, dtype: torch.dtype) -> Codebook:
    """Random codes and scales of one of the stored forms: NF4's two, MXFP4's, NVFP4's."""
    codes, groups, levels = torch.randint(0, 16, (OUT, IN), dtype=torch.uint8), IN // GROUP, "nf4"
    if form == "plain":
        scales = Scales(torch.rand(OUT, groups) + 0.1, "float32")
    elif form == "double":
        stored = torch.randint(0, 120, (OUT, groups), dtype=torch.uint8) + 128 * torch.randint(0, 2, (OUT, groups))
        scales = Scales(stored.to(torch.uint8), "e4m3", torch.rand(3) / 100, torch.tensor([5.0]), 5)
    elif form == "mxfp4":
        levels, scales = "e2m1", Scales(torch.randint(120, 132, (OUT, groups), dtype=torch.uint8), "e8m0")
    else:
        stored, levels = torch.randint(1, 120, (OUT, groups), dtype=torch.uint8), "e2m1"
        scales = Scales(stored, "e4m3", torch.rand(1) + 0.1, block=OUT * groups)
    return Codebook.of(codes, scales, levels, dtype)


NUMBERS = count()
FOLDER = TemporaryDirectory(prefix="trimtab-laws-")
register(FOLDER.cleanup)


def stored(dtype: torch.dtype, cast: torch.dtype | None = None) -> Stored:
    """A matrix in a file, behind another one."""
    path = Path(FOLDER.name) / f"{next(NUMBERS)}.safetensors"
    save_file({"a": torch.randn(3, 5), "w": torch.randn(OUT, IN).to(dtype)}, path)
    return Stored(places(path)["w"], cast)


FORMS = ("plain", "double", "mxfp4", "nvfp4")


def sparse(dtype: torch.dtype, kept: int = 3) -> Masked:
    """A few entries, some rows without any."""
    where = torch.zeros(OUT * IN, dtype=torch.bool)
    where[torch.randperm(OUT * IN)[:kept]] = True
    return Masked.of(torch.randn(OUT, IN).to(dtype), where.view(OUT, IN))


CASES: dict[str, Callable[[], Weight]] = {
    "dense-float32": lambda: Dense(torch.randn(OUT, IN)),
    "stored-float32": lambda: stored(torch.float32),
    "stored-bfloat16": lambda: stored(torch.bfloat16),
    "stored-cast": lambda: stored(torch.float32, torch.bfloat16),
    "stored-sum": lambda: Sum([stored(torch.float32), thin(torch.float32)]),
    **{f"blocks-{size}": (lambda size=size: Blocks(IN, size)) for size in (1, 2, 16)},
    **{
        f"masked-{share}-{str(dtype)[6:]}": (
            lambda share=share, dtype=dtype: Masked.of(torch.randn(OUT, IN).to(dtype), torch.rand(OUT, IN) < share)
        )
        for share in (0.0, 0.02, 0.4, 1.0)
        for dtype in (torch.float32, torch.bfloat16)
    },
    **{
        f"{kind}-{str(dtype)[6:]}": (lambda make=make, dtype=dtype: make(dtype))
        for dtype in (torch.float32, torch.bfloat16)
        for kind, make in {
            "low-rank": lambda dtype: thin(dtype),
            "diagonal": lambda dtype: Diagonal(torch.randn(OUT).to(dtype)),
            **{f"codebook-{form}": (lambda dtype, form=form: codebook(form, dtype)) for form in FORMS},
            "chain-rotated": lambda dtype: Chain([codebook("mxfp4", dtype), Blocks(IN, 16)]),
            "sum": lambda dtype: Sum([quantized(4, False, dtype), thin(dtype), Dense(torch.randn(OUT, IN).to(dtype))]),
            "outliers": lambda dtype: Sum([quantized(3, False, dtype), sparse(dtype)]),
            "hadamard": lambda dtype: Hadamard(
                [Masked.of(torch.ones(OUT, IN).to(dtype), torch.rand(OUT, IN) < 0.5), thin(dtype)]
            ),
            "chain-right": lambda dtype: Chain([quantized(3, True, dtype), Diagonal(torch.randn(IN).to(dtype))]),
            "chain-left": lambda dtype: Chain(
                [Diagonal(torch.randn(OUT).to(dtype)), Sum([Dense(torch.randn(OUT, IN).to(dtype)), thin(dtype)])]
            ),
            "chain-three": lambda dtype: Chain(
                [Dense(torch.randn(*shape).to(dtype)) for shape in ((OUT, 8), (8, 16), (16, IN))]
            ),
            "chain-full": lambda dtype: Chain(
                [Dense(torch.randn(OUT, 16).to(dtype)), Dense(torch.randn(16, IN).to(dtype))]
            ),
        }.items()
    },
    "dense-bfloat16": lambda: Dense(torch.randn(OUT, IN).bfloat16()),
    **{
        f"quantized-{width}-{'symmetric' if symmetric else 'asymmetric'}-{str(dtype)[6:]}": (
            lambda width=width, symmetric=symmetric, dtype=dtype: quantized(width, symmetric, dtype)
        )
        for width in BITS
        for symmetric in (True, False)
        for dtype in (torch.float32, torch.bfloat16)
    },
}


@pytest.fixture(params=CASES, name="w")
def _w(request: pytest.FixtureRequest) -> Weight:
    return CASES[request.param]()


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def test_every_kind_is_seen() -> None:
    seen = {type(make()) for make in CASES.values()}
    assert seen == {*Weight.__subclasses__(), *Join.__subclasses__()} - {Join}, "a node kind has no case here"


def test_forward_is_the_product_with_dense(w: Weight) -> None:
    """To 1e-5; where ``dense`` itself is rounded (a product or a sum in bfloat16), to that rounding."""
    x = torch.randn(3, 5, w.shape[1])
    expected = (x.double().flatten(0, 1) @ w.dense().double().T).unflatten(0, (3, 5))
    assert w.shape == w.dense().shape
    assert w.dtype == w.dense().dtype
    rounded = isinstance(w, Join | LowRank) and w.dtype == torch.bfloat16
    torch.testing.assert_close(
        w(x).double(), expected, rtol=0, atol=(1e-2 if rounded else 1e-5) * expected.abs().max().item()
    )
    bias = torch.randn(w.shape[0])
    torch.testing.assert_close(w(x, bias), w(x) + bias, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_spec_and_state_rebuild_it_bit_for_bit(w: Weight) -> None:
    again = build(w.spec())
    again.load_state_dict(load(save(w.state_dict())), strict=True)
    assert same_bits(again.dense(), w.dense())
    assert again.spec() == w.spec()
    for name, tensor in w.state_dict().items():
        assert same_bits(again.state_dict()[name], tensor), name


def test_bits_are_the_bytes_of_the_file(w: Weight) -> None:
    blob = save(w.state_dict())
    header = 8 + int.from_bytes(blob[:8], "little")
    assert bits(w) == 8 * (len(blob) - header)


def test_rows_are_rows_of_dense(w: Weight) -> None:
    for index in (torch.randint(0, OUT, (2, 3)), torch.arange(OUT), torch.arange(2, OUT - 1)):
        found, wanted = rows(w, index), w.dense()[index]
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        if isinstance(w, Join | LowRank):  # sums of another order
            torch.testing.assert_close(found, wanted, rtol=2e-2 if w.dtype == torch.bfloat16 else 1e-5, atol=1e-6)
        else:
            assert same_bits(found, wanted)


def test_what_stands_before_is_carried_through(w: Weight) -> None:
    """``times`` is the product with ``dense``, in float32 whatever the dtypes."""
    x = torch.randn(3, 2, w.shape[0])
    found, wanted = times(w, x.bfloat16()), x.bfloat16().double() @ w.dense().double()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5 * wanted.abs().max().item())


def test_leaves_come_from_the_left() -> None:
    a, b, c = Dense(torch.randn(4, 4)), Diagonal(torch.randn(4)), thin(torch.float32)
    assert list(leaves(Chain([Diagonal(torch.ones(4)), Sum([a, c])])))[1:] == [a, c]
    assert list(leaves(b)) == [b]


@pytest.mark.parametrize("name", ["low-rank", "chain-left", "hadamard"])
def test_gradients_of_trainable_leaves_match_finite_differences(name: str) -> None:
    w = CASES[f"{name}-float32"]().double()
    for value in w.parameters():
        value.requires_grad_(True)
    x, cotangent = torch.randn(3, IN).double(), torch.randn(3, OUT).double()

    def loss() -> Tensor:
        return (w(x) * cotangent).sum()

    loss().backward()
    for value in w.parameters():
        assert value.grad is not None
        flat, found = value.data.view(-1), value.grad.view(-1)
        for i in torch.randperm(len(flat))[:6].tolist():
            kept = flat[i].item()
            up, down = (loss().item() for flat[i] in (kept + 1e-6, kept - 1e-6))
            flat[i] = kept
            assert found[i].item() == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("width", BITS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_quantized_is_code_minus_zero_times_scale(width: int, symmetric: bool) -> None:
    w = quantized(width, symmetric, torch.bfloat16)
    codes = unpack(w.codes, width)
    for r in range(OUT):
        for c in range(IN):
            zero = 2 ** (width - 1) if w.zero is None else int(w.zero[r, c // GROUP])
            value = (int(codes[r, c]) - zero) * float(w.scale[r, c // GROUP])
            assert w.dense()[r, c] == torch.tensor(value).bfloat16()


@pytest.mark.parametrize("form", FORMS)
def test_a_codebook_is_level_times_scale(form: str) -> None:
    """Scales are read from their bytes by hand: sign, exponent and mantissa of E4M3, the exponent of E8M0."""
    w = codebook(form, torch.bfloat16)
    codes = unpack(w.codes, 4)
    for r in range(OUT):
        for c in range(IN):
            g = c // GROUP
            stored = w.scale[r, g].item()
            if form == "mxfp4":
                scale = 2.0 ** (stored - 127)
            elif form == "plain":
                scale = stored
            else:
                low, high = stored & 7, stored >> 3 & 15
                scale = (1 + low / 8) * 2.0 ** (high - 7) if high else low / 8 * 2.0**-6
                scale *= (-1 if stored >= 128 else 1) * w.coarse[(r * (IN // GROUP) + g) // w.block].item()
                scale += w.mean.item() if form == "double" else 0
            value = torch.tensor(LEVELS[w.levels][codes[r, c]] * scale)
            torch.testing.assert_close(w.dense()[r, c], value.bfloat16(), rtol=2**-8, atol=0)


@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_blocks_are_the_hadamard_matrix_which_is_its_own_inverse(size: int) -> None:
    """Entry (i, j) of a block is (-1)^(ones that i and j share) / sqrt(k)."""
    w = Blocks(128, size)
    for i in range(0, 128, 7):
        for j in range(128):
            sign = (-1) ** ((i % size) & (j % size)).bit_count() if i // size == j // size else 0
            assert w.dense()[i, j].item() == pytest.approx(sign / size**0.5, abs=1e-7)
    x = torch.randn(5, 128)
    torch.testing.assert_close(w(w(x)), x, rtol=1e-5, atol=1e-5)
    assert (w(x.bfloat16()).dtype, list(w.state_dict())) == (torch.bfloat16, [])
    torch.testing.assert_close(w(x.bfloat16()), (x.bfloat16().float() @ w.dense()).bfloat16(), rtol=2**-7, atol=1e-6)


def test_gradients_pass_a_rotation_that_was_first_called_without_any() -> None:
    signs.cache_clear()
    w, x = Blocks(64, 32), torch.randn(2, 64, requires_grad=True)
    with torch.inference_mode():
        w(torch.randn(2, 64))
    w(x)[0, 5].backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0], w.dense()[5])


@settings(max_examples=60, deadline=None)
@given(width=st.sampled_from(BITS), high=st.integers(1, 5), count=st.integers(1, 6), seed=st.integers(0, 2**16))
def test_pack_and_unpack_are_inverse(width: int, high: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**width, (high, count * period(width)), generator=generator, dtype=torch.uint8)
    packed = pack(codes, width)
    assert packed.shape == (high, codes.shape[1] * width // 8)
    assert torch.equal(unpack(packed, width), codes)
    stream = "".join(f"{byte:08b}"[::-1] for byte in packed[0].tolist())
    assert [int(stream[i * width : (i + 1) * width][::-1], 2) for i in range(codes.shape[1])] == codes[0].tolist()


@pytest.mark.parametrize("kept", [0, 3, 11, 100, 288])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sparse_entries_are_stored_in_the_form_that_takes_fewer_bytes(kept: int, dtype: torch.dtype) -> None:
    w = sparse(dtype, kept)
    other = Masked(w.values, pack(w.kept().byte(), 1))
    if w.mask is not None:
        row, column = w.places()
        ends = torch.bincount(row, minlength=OUT).cumsum(0)
        other = Masked(w.values, None, column.short(), torch.cat([torch.zeros(1), ends]).int(), IN)
    assert (w.mask is None) == (kept <= 3)
    assert bits(w) == masked_bits(OUT, IN, kept, 8 * dtype.itemsize) <= bits(other)
    assert same_bits(w.dense(), other.dense())
    assert torch.equal(w.kept(), other.kept())
    assert w.smaller() is w
    assert other.smaller().spec() == w.spec()
    for name, tensor in w.state_dict().items():
        assert same_bits(other.smaller().state_dict()[name], tensor), name
    twice = w.like(2 * w.values)
    assert same_bits(twice.dense(), 2 * w.dense())
    assert twice.spec() == w.spec()


@pytest.mark.parametrize("count", [0, 1, FEW, FEW + 1, 40])
def test_few_and_many_rows_of_sparse_entries_agree(count: int) -> None:
    w, x = sparse(torch.float32), torch.randn(count, IN)
    torch.testing.assert_close(w(x), x @ w.dense().T)


def test_a_mask_goes_on_being_written_and_read_as_version_one() -> None:
    """What older versions wrote is read, and they read masks that are written now."""
    w = Masked.of(torch.randn(OUT, IN), torch.rand(OUT, IN) < 0.5)
    assert w.spec() == {"kind": "masked", "version": 1, "shape": [OUT, IN], "dtype": "float32",
                        "kept": w.values.numel()}  # fmt: skip
    assert set(w.state_dict()) == {"values", "mask"}
    assert sparse(torch.float32).spec()["version"] == 2
    assert set(sparse(torch.float32).state_dict()) == {"values", "columns", "pointer"}
    with pytest.raises(ValueError, match="version 3"):
        build(w.spec() | {"version": 3})


def test_columns_beyond_two_bytes_take_four() -> None:
    where = torch.zeros(2, 40_000, dtype=torch.bool)
    where[1, [5, 39_999]] = True
    w = Masked.of(torch.randn(2, 40_000), where)
    assert w.columns is not None
    assert (w.columns.dtype, w.columns.tolist()) == (torch.int32, [5, 39_999])
    assert build(w.spec()).state_dict()["columns"].dtype == torch.int32
    wide = Masked.of(torch.randn(2, 32_768), where[:, :32_768])
    assert wide.columns is not None
    assert wide.columns.dtype == torch.int16


def test_gradients_of_dense_match_finite_differences() -> None:
    w = Dense(torch.nn.Parameter(torch.randn(4, 5, dtype=torch.float64)))
    x = torch.randn(3, 5, dtype=torch.float64)
    cotangent = torch.randn(3, 4, dtype=torch.float64)
    (w(x) * cotangent).sum().backward()
    assert w.value.grad is not None
    for i in range(4):
        for j in range(5):
            step = torch.zeros(4, 5, dtype=torch.float64)
            step[i, j] = 1e-6
            up, down = (((x @ (w.value + s * step).T) * cotangent).sum() for s in (1, -1))
            assert w.value.grad[i, j].item() == pytest.approx(((up - down) / 2e-6).item(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("width", "group", "row"), [(5, 8, 16), (4, 7, 48), (3, 12, 24), (4, 0, 16), (2, 2, 8)])
def test_a_grid_that_does_not_fit_is_refused(width: int, group: int, row: int) -> None:
    with pytest.raises(ValueError, match=r"accepted|nearest"):
        check_grid(width, group, row)


def test_an_unknown_spec_is_refused() -> None:
    with pytest.raises(ValueError, match="wavelet"):
        build({"kind": "wavelet", "version": 1})
    with pytest.raises(ValueError, match="levels: got 'nf5'; accepted: nf4, e2m1"):
        build(codebook("plain", torch.float32).spec() | {"levels": "nf5"})
    with pytest.raises(ValueError, match="scale: got 'e5m2'; accepted: float32, e4m3, e8m0"):
        build(codebook("plain", torch.float32).spec() | {"scale": "e5m2"})
    with pytest.raises(ValueError, match="of: got 'haar'; accepted: 'hadamard'"):
        build(Blocks(8, 4).spec() | {"of": "haar"})
    with pytest.raises(ValueError, match="size: got 12; accepted: a power of two"):
        Blocks(24, 12).dense()
    with pytest.raises(ValueError, match="version 2"):
        build({"kind": "dense", "version": 2, "shape": [1, 1], "dtype": "float32"})
