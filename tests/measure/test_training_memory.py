"""What a step of training holds, foretold on the meta device, beside what a process of its own takes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trimtab.measure.activations import activations

MEASURED = """
import sys, torch
from test_training_memory import made, step
torch.set_num_threads(1)
model, optimizer = made("cpu")
def of(name):
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))
model(input_ids=torch.ones(1, 4, dtype=torch.long), labels=torch.ones(1, 4, dtype=torch.long)).loss.backward()
model.zero_grad(set_to_none=True)  # what a first call of its own takes, once, is no step's
before = of("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
step(model, optimizer, torch.randint(0, 2048, (int(sys.argv[1]), int(sys.argv[2]))))
print(of("VmHWM") - before)
"""
FREED = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""What is freed goes back at once: else glibc keeps up to a third of the peak, of which no count of tensors tells."""


def made(device: str) -> tuple[LlamaForCausalLM, torch.optim.Optimizer]:
    config = LlamaConfig(
        vocab_size=2048, hidden_size=512, intermediate_size=1536, num_hidden_layers=3, num_attention_heads=8,
        num_key_value_heads=4, attn_implementation="eager",
    )  # fmt: skip
    with torch.device(device):
        model = LlamaForCausalLM(config)
    return model, torch.optim.AdamW(model.parameters(), foreach=False)


def step(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, ids: torch.Tensor) -> None:
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of a process by /proc")
@pytest.mark.parametrize("shape", [(1, 64), (4, 256)], ids=["mostly the optimizer's", "mostly activations"])
def test_gradients_optimizer_and_activations_are_foretold_within_15_percent(shape: tuple[int, int]) -> None:
    """By the row gpu-memory-roofline; gradients and AdamW's two moments take three times the weights at the least."""
    model, optimizer = made("meta")
    weights = sum(4 * p.numel() for p in model.parameters())
    foretold, held = activations(lambda: step(model, optimizer, torch.zeros(shape, dtype=torch.long, device="meta")))
    assert held == pytest.approx(3 * weights, rel=0.01)
    command = [sys.executable, "-c", MEASURED, *map(str, shape)]
    own = os.environ | FREED | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
    assert foretold == pytest.approx(int(done.stdout), rel=0.15)
