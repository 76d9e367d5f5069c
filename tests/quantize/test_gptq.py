"""What is special to GPTQ: a case by hand, blocks, damping, dead inputs, tall matrices, bad statistics."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from calibrated import gram_of, inputs
from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.fit import Site
from trimtab.core.hessian import conditioned, inverse_root
from trimtab.core.joins import leaves
from trimtab.core.threads import one_thread
from trimtab.core.weight import Dense, Quantized
from trimtab.quantize import AWQ, GPTQ, RTN, FineQuant, QuantEase
from trimtab.quantize import gptq as module
from trimtab.quantize import rtn as rounding
from trimtab.quantize import scaled as scaling


def fitted(w: Tensor, x: Tensor, **knobs: object) -> Quantized:
    found = GPTQ(**knobs)(Dense(w), Site("layer", lambda: w, gram_of(x)))  # type: ignore[arg-type]
    assert isinstance(found, Quantized)
    return found


def lost(w: Tensor, q: Quantized, x: Tensor) -> float:
    return ((w.double() - q.dense().double()) @ x.double().T).square().sum().item()


def test_two_columns_by_hand() -> None:
    """Inputs that always agree: rounding 0.4 down to 0 leaves 0.4 to the second column, 0.4 + 0.4 rounds to 1."""
    x = torch.tensor([[1.0, 1.0], [2.0, 2.0]]).repeat(4, 1)
    w = torch.tensor([[0.4, 0.4, 0.0, 3.0]])
    wide = torch.cat([x, torch.eye(8)[:, :2]], 1)
    plain = RTN(2, -1, clip=False)(Dense(w), Site("layer", lambda: w))
    assert plain.dense().tolist() == [[0.0, 0.0, 0.0, 3.0]]
    ours = fitted(w, wide, bits=2, group_size=-1, clip=False, damp_percent=1e-4)
    assert ours.dense().tolist() == [[0.0, 1.0, 0.0, 3.0]]


def test_the_root_is_that_of_the_inverse() -> None:
    h = gram_of(inputs(100, 24)).read()
    u, damp = inverse_root(h, 0.5)
    assert damp == 0.5
    assert torch.equal(u, u.triu())
    assert (u.diagonal() > 0).all()
    expected = torch.linalg.inv(h.double() + 0.5 * torch.eye(24))
    torch.testing.assert_close((u.T @ u).double(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("group_size", [16, 48, -1])
def test_the_size_of_a_block_changes_nothing(group_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    w, x = torch.randn(12, 48), inputs(200, 48)
    found = []
    for block in (1, 7, 128):
        monkeypatch.setattr(module, "BLOCK", block)
        found.append(fitted(w, x, bits=3, group_size=group_size).codes)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_rows_are_independent_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    w, x = torch.randn(21, 32), inputs(200, 32)
    whole = fitted(w, x, bits=4, group_size=16)
    monkeypatch.setattr(module, "CHUNK", 5)
    parts = fitted(w, x, bits=4, group_size=16)
    assert torch.equal(parts.codes, whole.codes)
    torch.testing.assert_close(parts.scale, whole.scale)
    one = fitted(w[7:8], x, bits=4, group_size=16)
    assert torch.equal(one.codes[0], whole.codes[7])


def test_one_thread_gives_the_others_back() -> None:
    before = torch.get_num_threads()
    with one_thread() as found:
        assert (found, torch.get_num_threads()) == (before, 1)
    assert torch.get_num_threads() == before
    with pytest.raises(RuntimeError), one_thread():
        raise RuntimeError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("fit", [GPTQ(3, 16), RTN(3, 16), AWQ(3, 16)])
def test_threads_change_no_code(fit: GPTQ | RTN | AWQ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 8)
    monkeypatch.setattr(rounding, "NUMBERS", 256)
    monkeypatch.setattr(scaling, "NUMBERS", 256)
    w, x, before = torch.randn(50, 32), inputs(200, 32), torch.get_num_threads()
    site, found = Site("layer", lambda: w, gram_of(x)), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(fit(Dense(w), site).state_dict())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for key, value in found[0].items():
        assert torch.equal(value, found[1][key]), key


def test_the_size_of_the_statistics_does_not_matter() -> None:
    w, x = torch.randn(8, 32), inputs(100, 32)
    small, large = (fitted(w, s * x, bits=3, group_size=16) for s in (2**-12, 2**12))
    assert torch.equal(small.codes, large.codes)


def test_inputs_that_are_always_zero_are_rounded_to_nearest() -> None:
    w, x = torch.randn(8, 32), inputs(100, 32)
    x[:, 4:9] = 0
    q = fitted(w, x, bits=4, group_size=8, clip=False)
    assert q.zero is not None
    scale, zero = (t.float().repeat_interleave(8, 1) for t in (q.scale, q.zero))
    nearest = ((w / scale).round() + zero).clamp(0, 15)
    values = (nearest - zero) * scale
    torch.testing.assert_close(q.dense()[:, 4:9], values[:, 4:9])
    assert (q.dense()[:, 4:9] - w[:, 4:9]).abs().max() <= scale.max()
    nothing = fitted(w, torch.zeros(10, 32), bits=4, group_size=8, clip=False)
    plain = RTN(4, 8, clip=False)(Dense(w), Site("", lambda: w))
    assert torch.equal(nothing.codes, plain.state_dict()["codes"])


def test_damping_grows_until_it_factorizes(caplog: pytest.LogCaptureFixture) -> None:
    w, x = torch.randn(8, 64), torch.randn(5, 64)  # 5 rows cannot give a matrix of rank 64
    with caplog.at_level(logging.WARNING):
        q = fitted(w, x, bits=4, group_size=16, damp_percent=0.0)
    assert "damp_percent raised to 0.0001" in caplog.text
    where = Site("layer", lambda: w, gram_of(x))
    GPTQ(4, 16, damp_percent=0.0)(Dense(w), where)
    assert where.notes["damp_percent"] >= 1e-4, "said, not only logged"
    assert q.dense().isfinite().all()
    assert lost(w, q, x) < lost(w, RTN(4, 16)(Dense(w), Site("", lambda: w)), x)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -1.0])
def test_bad_statistics_are_an_anomaly_that_names_the_layer(bad: float) -> None:
    gram = gram_of(inputs(100, 16))
    gram.total[3, 3] = bad
    with pytest.raises(Anomaly, match=r"model\.q_proj: .*calibration data"):
        GPTQ(4, 16)(Dense(torch.randn(4, 16)), Site("model.q_proj", lambda: torch.zeros(1, 1), gram))


def test_statistics_that_no_damping_helps_are_an_anomaly() -> None:
    gram = gram_of(inputs(100, 16))
    gram.total[:] = 1 - 3 * torch.eye(16)
    gram.total.fill_diagonal_(1.0)
    gram.total[0, 1] = gram.total[1, 0] = -50.0
    with pytest.raises(Anomaly, match="whatever the damping"):
        GPTQ(4, 16)(Dense(torch.randn(4, 16)), Site("layer", lambda: torch.zeros(1, 1), gram))


def test_no_statistics_and_bad_damping_are_refused() -> None:
    w = torch.randn(4, 16)
    with pytest.raises(BadInput, match="layer: gptq needs calibration data"):
        GPTQ(4, 16)(Dense(w), Site("layer", lambda: w))
    for percent in (-0.1, 1.5):
        with pytest.raises(ValueError, match="damp_percent: got"):
            GPTQ(4, 16, damp_percent=percent).check(16)


def test_conditioning_has_a_mean_diagonal_of_one() -> None:
    h = gram_of(inputs(50, 8)).read()
    assert conditioned(h).diagonal().mean().item() == pytest.approx(1)
    assert torch.equal(conditioned(torch.zeros(3, 3)), torch.eye(3))


def test_it_is_usable_alone_in_the_checkpoints_dtype() -> None:
    w, x = torch.randn(32, 128).bfloat16(), inputs(512, 128).bfloat16()
    q = fitted(w, x)
    assert (q.bits, q.group_size, q.scale.dtype, q.shape) == (4, 64, torch.bfloat16, (32, 128))
    assert lost(w, q, x) < lost(w, RTN(4, 64)(Dense(w), Site("", lambda: w)), x)  # type: ignore[arg-type]
    assert GPTQ(3, 32, True).without_data() == RTN(3, 32, True)


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that is made."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for t in made if isinstance(made, tuple | list) else (made,):
            if isinstance(t, Tensor):
                self.bytes = max(self.bytes, t.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("fit", [GPTQ(4, 32), RTN(4, 32), AWQ(4, 32), FineQuant(4, 32), QuantEase(4, 32, sweeps=1)])
def test_a_tall_matrix_is_worked_on_in_parts(fit: Any) -> None:
    """The matrix has 4 MiB, its float32 copy 8 MiB, and codes as int32 another 8."""
    w, x = torch.randn(65536, 32).bfloat16(), inputs(512, 32)
    site = Site("tall", lambda: w, gram_of(x))
    with one_thread(), Largest() as largest:
        q = fit(Dense(w), site)
    assert largest.bytes <= 4 * 2**20
    few, every = (next(iter(leaves(one))) for one in (fit(Dense(w[-64:]), site), q))
    assert isinstance(fit, AWQ) or torch.equal(every.state_dict()["codes"][-64:], few.state_dict()["codes"])
