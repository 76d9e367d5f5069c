"""Law of the compiled products: by every form of weight, dtype and level they answer as the reference in float64."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from weights import EXACT, FORMS, HALVES, HERE, SITE, TILED, far, levels, made, stored

from trimtab.core.codebook import Codebook
from trimtab.core.errors import Refused
from trimtab.core.factors import LowRank
from trimtab.core.joins import Sum
from trimtab.core.linear import Embedding, Linear
from trimtab.core.native import library, read_all
from trimtab.core.weight import Dense, Quantized, Weight
from trimtab.quantize import RTN
from trimtab.runtime.compiled import Compiled, Rows
from trimtab.runtime.level import LEVELS, VARIABLE
from trimtab.runtime.lower import lower
from trimtab.runtime.plan.layout import Laid, laid


@pytest.fixture(autouse=True)
def _built() -> None:
    assert library() is not None, "the compiled library is not built"


@levels
@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("form", FORMS)
def test_products_are_those_of_float64(form: str, dtype: torch.dtype, level: int) -> None:
    for out, width in ((48, 96), (33, 192), (16, 480)):
        w = made(form, out, width, dtype)
        found = laid(w)
        assert isinstance(found, Laid), found
        bias = torch.randn(out).to(dtype)
        for rows in ((1,), (3,), (4,), (5,), (2, 8), (15,), (37,), (2, 300)):
            x = torch.randn(*rows, width).to(dtype)
            y = Compiled(found, level)(x, bias)
            assert (y.dtype, y.shape) == (dtype, (*rows, out))
            tiles = level >= 3 and dtype == torch.bfloat16 and width % 32 == 0 and x.numel() // width >= 16
            halves = HALVES if level >= 2 and isinstance(w, Quantized) else 0.0
            assert far(y, x.double() @ stored(w).T + bias.double()) < (TILED if tiles else EXACT[dtype] + halves), rows


@pytest.mark.parametrize("width", [16, 48, 80])
def test_rows_of_which_no_tile_is_full_go_without(width: int) -> None:
    w = RTN(4, 16)(Dense(torch.randn(32, width).bfloat16()), SITE)
    x = torch.randn(40, width).bfloat16()
    assert far(Compiled(found(w), HERE)(x), x.double() @ stored(w).T) < EXACT[torch.bfloat16]


def found(w: Weight) -> Laid:
    made = laid(w)
    assert isinstance(made, Laid), made
    return made


def test_one_row_has_the_same_sums_among_others() -> None:
    """To the bit: what is decoded does not depend on who is decoded beside it."""
    w, x = found(made("4 bits", 48, 96, torch.float32)), torch.randn(4, 96)
    assert torch.equal(Compiled(w, HERE)(x), torch.cat([Compiled(w, HERE)(row[None]) for row in x]))


@levels
@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("form", ["dense", "4 bits", "8 bits by rows", "nf4"])
def test_an_input_that_is_no_number_is_seen_in_its_own_row(
    form: str, bad: float, dtype: torch.dtype, level: int
) -> None:
    w, x = made(form, 48, 96, dtype), torch.randn(20, 96).to(dtype)
    for rows in (3, 20):
        given = x[:rows].clone()
        given[1, 70] = bad
        y = Compiled(found(w), level)(given)
        assert not y[1].isfinite().any()
        assert y[[0, *range(2, rows)]].isfinite().all()


@levels
def test_one_input_among_small_ones_takes_nothing_from_other_chunks(level: int) -> None:
    """A chunk has a scale of its own: what is a million times as large next to it is not felt."""
    w = made("4 bits", 48, 96, torch.float32)
    x = torch.randn(2, 96)
    x[:, 80] = 1e6
    y = Compiled(found(w), level)(x).double() - x[:, 64:].double() @ stored(w)[:, 64:].T
    assert far(y, x[:, :64].double() @ stored(w)[:, :64].T) < 0.5


def test_no_rows_give_none() -> None:
    assert Compiled(found(made("4 bits", 48, 96, torch.float32)), HERE)(torch.empty(2, 0, 96)).shape == (2, 0, 48)


def test_float16_goes_by_way_of_float32() -> None:
    w, x = made("8 bits", 48, 96, torch.float32), torch.randn(5, 96).half()
    y = Compiled(found(w), HERE)(x)
    assert y.dtype == torch.float16
    assert far(y, x.double() @ stored(w).T) < 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_the_weights_own(form: str) -> None:
    w = made(form, 33, 96, torch.float32)
    numbers = torch.tensor([[0, 32, 7], [7, 31, 16]])
    rows = Rows(found(w), torch.float32)(numbers)
    assert rows.shape == (2, 3, 96)
    assert torch.allclose(rows, w.dense()[numbers], rtol=1e-6, atol=1e-7)
    with pytest.raises(IndexError, match="rows 0 to 33 of 33"):
        Rows(found(w), torch.float32)(torch.tensor([0, 33]))


def test_a_gradient_is_refused_by_name() -> None:
    kernel, x = Compiled(found(made("4 bits", 48, 96, torch.float32)), HERE), torch.randn(2, 96, requires_grad=True)
    with pytest.raises(Refused, match="a lowered model: its compiled products have no gradients"):
        kernel(x)
    with torch.no_grad():
        kernel(x)


def test_every_level_is_asked_for_by_name_and_all_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    w, x = made("4 bits", 48, 96, torch.float32), torch.randn(3, 96)
    answers = []
    for name in LEVELS[: HERE + 1]:
        monkeypatch.setenv(VARIABLE, name)
        host = Linear(w, None, "layer")
        assert lower(nn.Sequential(host)).kernels == {"layer": "compiled 4 bits"}
        assert isinstance(host.kernel, Compiled)
        assert host.kernel.level == LEVELS.index(name)
        answers.append(host(x))
    assert all(far(one, answers[0].double()) < HALVES for one in answers)


def test_a_table_and_a_head_of_one_weight_share_its_codes_and_release_them() -> None:
    w = made("4 bits", 48, 96, torch.float32)
    table, head = Embedding(w, "table", 2.0), Linear(w, None, "head")
    ids, x = torch.tensor([[3, 47]]), torch.randn(2, 96)
    before = table(ids), head(x)
    report = lower(nn.ModuleList([table, head]), release=True)
    assert (report.kernels, report.kept) == ({"head": "compiled 4 bits"}, {})
    assert isinstance(table.kernel, Rows)
    assert isinstance(head.kernel, Compiled)
    assert table.kernel.laid is head.kernel.laid
    assert {value.device.type for value in (*table.w.buffers(), *head.w.buffers())} == {"meta"}
    assert torch.equal(table(ids), before[0])
    assert far(head(x), before[1].double()) < HALVES


def test_a_sum_runs_its_grid_compiled_and_the_rest_as_it_is() -> None:
    grid = made("4 bits", 48, 96, torch.float32)
    w = Sum([grid, LowRank(nn.Parameter(torch.randn(48, 3)), nn.Parameter(torch.randn(3, 96)))])
    host, x = Linear(w, None, "layer"), torch.randn(5, 96)
    assert lower(nn.Sequential(host)).kernels == {"layer": "compiled 4 bits + low-rank"}
    assert far(host(x), x.double() @ w.dense().double().T) < HALVES


def test_groups_that_it_does_not_read_go_by_torch_and_say_nothing_of_it() -> None:
    w = RTN(4, 24)(Dense(torch.randn(48, 96)), SITE)
    assert "multiples of 16" in str(laid(w))
    host = Linear(w, None, "layer")
    lower(nn.Sequential(host), hold=0)
    assert not isinstance(host.kernel, Compiled)


def test_codes_without_a_library_go_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    from trimtab.runtime import lower as module

    monkeypatch.setattr(module, "level", lambda: None)
    host = Linear(RTN(4, 32)(Dense(torch.randn(48, 96)), SITE), None, "layer")
    assert lower(nn.Sequential(host), capability="AVX2", hold=0).kernels == {"layer": "int4pack"}


def test_a_codebook_is_multiplied_from_its_codes() -> None:
    w = made("nf4", 48, 96, torch.bfloat16)
    assert isinstance(w, Codebook)
    host = Linear(w, None, "layer")
    assert lower(nn.Sequential(host)).kernels == {"layer": "compiled 4 bits"}


@pytest.mark.parametrize("count", [1, 31, 32, 1000, 70_001])
def test_reading_a_buffer_reads_all_of_it(count: int) -> None:
    x = torch.randint(-(1 << 62), 1 << 62, (count,))
    assert read_all(x) == int(x.sum())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process")  # that it has threads, which is what is tested
def test_a_child_of_fork_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads do not go with it: by the parent's it would wait for ever."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    kernel, x = Compiled(found(made("4 bits", 4096, 96, torch.float32)), HERE), torch.randn(3, 96)
    before, value = kernel(x), x.clone()
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(kernel(value), before) else 1)
    for _ in range(300):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child waits")
    assert os.waitstatus_to_exitcode(status) == 0


def test_callers_take_turns() -> None:
    """Of products in several threads none is another's."""
    kernels = [Compiled(found(made(form, 2048, 96, torch.float32)), HERE) for form in ("4 bits", "8 bits", "nf4")]
    x = torch.randn(3, 96)
    alone = [kernel(x) for kernel in kernels]
    with ThreadPoolExecutor(3) as pool:
        several = list(pool.map(lambda kernel: [kernel(x) for _ in range(50)], kernels))
    for one, every in zip(alone, several, strict=True):
        assert all(torch.equal(one, other) for other in every)
