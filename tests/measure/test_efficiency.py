"""EfficientLLM's six figures against closed forms, what they show on tiny models, and who dominates whom."""

from __future__ import annotations

import dataclasses
import json
import math
import random

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from trimtab.adapt.lora import LoRA, attached
from trimtab.core.errors import BadInput
from trimtab.core.linear import Linear
from trimtab.core.reading import Reading
from trimtab.core.weight import Dense, Quantized
from trimtab.measure.efficiency import AXES, MORE, Trial, six, table
from trimtab.measure.params import stored
from trimtab.measure.vlm import parts

TIMES = [i / 100 for i in range(401)]
TRIAL = Trial(
    times=TIMES, used=[2e9 + 5e8 * t for t in TIMES], watts=[100 + 50 * math.sin(t) for t in TIMES],
    latencies=[0.5, 0.7, 1.2], tokens=600, flops=8e12, parameters=3e8, capacity=1e10, peak=1e13,
    bytes_before=1.2e9, bytes_after=4e8, score_before=0.8, score_after=0.76,
)  # fmt: skip


def test_each_figure_is_its_closed_form() -> None:
    found = {one.name: one for one in six(TRIAL)}
    assert list(found) == list(MORE)
    wanted = {
        "efficiency.memory": (2e9 + 5e8 * 2) / 1e10,  # the mean of a ramp is its middle
        "efficiency.compute": 8e12 / 4 / 1e13,
        "efficiency.latency": 0.8,
        "efficiency.throughput": 150.0,
        "efficiency.throughput_per_parameter": 150 / 3e8,
        "efficiency.energy": 100 * 4 + 50 * (1 - math.cos(4)),
        "efficiency.compression": 3 * 0.95,
    }  # fmt: skip
    for name, value in wanted.items():
        assert found[name].value == pytest.approx(value, rel=1e-4), name
    assert found["efficiency.energy"].unit == "J"


@pytest.mark.parametrize("name", ["capacity", "peak", "parameters", "bytes_before", "bytes_after", "score_before"])
def test_what_would_divide_by_nothing_is_named(name: str) -> None:
    with pytest.raises(BadInput, match=f"efficiency: {name}: got 0; accepted: above 0"):
        six(dataclasses.replace(TRIAL, **{name: 0}))


def test_traces_without_time_or_requests_are_refused() -> None:
    with pytest.raises(BadInput, match="efficiency: latencies"):
        six(dataclasses.replace(TRIAL, latencies=[]))
    with pytest.raises(BadInput, match="efficiency: times"):
        six(dataclasses.replace(TRIAL, times=[1.0, 1.0], used=[1.0, 1.0], watts=[1.0, 1.0]))
    with pytest.raises(ValueError, match="power"):
        six(dataclasses.replace(TRIAL, times=[], used=[], watts=[]))


def row(memory: float, compute: float, latency: float, rate: float, energy: float, ratio: float) -> list[Reading]:
    values = (memory, compute, latency, rate, rate / 1e9, energy, ratio)
    return [Reading(name, value, "") for name, value in zip(MORE, values, strict=True)]


def test_a_pair_is_pareto_where_nothing_is_as_good_in_all_and_better_in_one() -> None:
    rows = {
        "base": row(0.5, 0.3, 1.0, 100.0, 50.0, 1.0),
        "int4": row(0.2, 0.3, 0.8, 120.0, 30.0, 3.7),  # better in all but one, where it is equal
        "moe": row(0.9, 0.2, 0.4, 250.0, 60.0, 1.0),  # the quickest
        "worse": row(0.2, 0.3, 0.9, 120.0, 30.0, 3.7),
        "same": row(0.2, 0.3, 0.8, 120.0, 30.0, 3.7),
    }
    found = {one["name"]: one for one in table(rows)}
    assert {name: one["pareto"] for name, one in found.items()} == {
        "base": False, "int4": True, "moe": True, "worse": False, "same": True,
    }  # fmt: skip
    assert found["base"]["dominated_by"] == "int4"
    assert found["moe"]["dominated_by"] is None
    assert json.loads(json.dumps(list(found.values())))[0]["figures"]["efficiency.latency"] == 1.0
    only = {one["name"]: one["pareto"] for one in table(rows, ("efficiency.latency",))}
    assert only == {"base": False, "int4": False, "moe": True, "worse": False, "same": False}


def test_of_many_no_dominated_pair_is_pareto_and_every_other_one_is() -> None:
    rng = random.Random(0)
    rows = {f"m{i}": row(*(float(rng.randint(1, 4)) for _ in range(6))) for i in range(60)}
    better = {"efficiency.memory": -1, "efficiency.latency": -1, "efficiency.energy": -1}
    found = {one["name"]: one for one in table(rows)}
    for name, one in found.items():
        mine = [better.get(axis, 1) * one["figures"][axis] for axis in AXES]
        others = [[better.get(axis, 1) * other["figures"][axis] for axis in AXES] for other in found.values()]
        beaten = any(all(b >= a for a, b in zip(mine, their, strict=True)) and their != mine for their in others)
        assert one["pareto"] == (not beaten), name
    assert 0 < sum(one["pareto"] for one in found.values()) < 60


def test_what_was_not_measured_is_not_called_good() -> None:
    rows = {"whole": row(0.5, 0.3, 1.0, 100.0, 50.0, 1.0), "part": row(0.1, 0.9, 0.1, 900.0, 1.0, 9.0)[:5]}
    found = {one["name"]: one for one in table(rows)}
    assert found["part"]["pareto"] is None
    assert found["whole"]["pareto"] is True
    with pytest.raises(BadInput, match=r"axes: got 'efficiency.latencie' \(nearest: 'efficiency.latency'\)"):
        table(rows, ("efficiency.latencie",))
    with pytest.raises(BadInput, match="axes: got 'none'"):
        table(rows, ())
    with pytest.raises(BadInput, match=r"twice: got efficiency\.memory twice"):
        table({"twice": [*rows["part"], rows["part"][0]]})


def test_four_bits_cut_the_bytes_by_the_predicted_ratio_with_their_scales() -> None:
    """Codes 4 bits, a 16-bit scale and an 8-bit zero for each 32 of them: 16 / 4.75, where all of it is linear."""
    rows, width = 64, 96
    dense = [Dense(nn.Parameter(torch.randn(rows, width).bfloat16())) for _ in range(2)]
    before = nn.Sequential(*[Linear(one, None, "one") for one in dense])
    codes = torch.randint(0, 16, (rows, width), dtype=torch.uint8)
    scale, zero = torch.rand(rows, width // 32).bfloat16(), torch.zeros(rows, width // 32, dtype=torch.uint8)
    after = nn.Sequential(*[Linear(Quantized.of(codes.roll(i), scale + i, zero + i, 4), None, "one") for i in (1, 2)])
    assert stored(before) / stored(after) == pytest.approx(16 / (4 + (16 + 8) / 32))
    trial = dataclasses.replace(TRIAL, bytes_before=stored(before), bytes_after=stored(after))
    assert six(trial)[-1].value == pytest.approx(16 / 4.75 * 0.95)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_heads_that_share_keys_store_their_share_of_the_cache(groups: int) -> None:
    heads, size, layers, tokens = 4, 8, 2, 11
    config = LlamaConfig(vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=layers, pad_token_id=0,
                         num_attention_heads=heads, num_key_value_heads=groups, head_dim=size)  # fmt: skip
    ids = torch.randint(1, 32, (1, tokens))
    found = parts(LlamaForCausalLM(config).eval(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    found.prefill()
    of_every_head = 2 * layers * heads * size * tokens * 4
    assert found.cache() == of_every_head * groups // heads


def test_rslora_is_seen_in_the_norm_of_the_update() -> None:
    """With the same factors alpha / sqrt(r) makes it sqrt(r) times what alpha / r makes it, at every rank."""
    for rank in (1, 4, 16):
        norms = []
        for rs in (False, True):
            low = LoRA(r=rank, use_rslora=rs).start((24, 32), torch.Generator().manual_seed(0))
            torch.nn.init.ones_(low.left)
            base = Dense(nn.Parameter(torch.zeros(24, 32)))
            norms.append(float(attached(base, low).dense().detach().norm()))
        assert norms[1] / norms[0] == pytest.approx(rank**0.5)
