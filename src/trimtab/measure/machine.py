"""The machine as ``trimtab doctor`` shows it: versions, processor, memory, kernels; and what it reaches, measured."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

from trimtab.measure.probes import arithmetic, read_bandwidth

LIBRARIES = ("torch", "transformers", "safetensors", "tokenizers", "numpy", "pillow", "trimtab")
# Short name -> what Linux, macOS and torch call the instruction set.
FLAGS = {
    "AVX2": ("avx2", "hw.optional.avx2_0", "avx2"), "AVX-512": ("avx512f", "hw.optional.avx512f", "avx512_f"),
    "VNNI": ("avx512_vnni", "", "avx512_vnni"), "BF16": ("avx512_bf16", "hw.optional.arm.FEAT_BF16", "avx512_bf16"),
    "AMX": ("amx_tile", "", "amx_tile"), "AMX-BF16": ("amx_bf16", "", "amx_bf16"),
    "AMX-INT8": ("amx_int8", "", "amx_int8"),
    "NEON": ("asimd", "hw.optional.neon", ""), "I8MM": ("i8mm", "hw.optional.arm.FEAT_I8MM", ""),
}  # fmt: skip
PACKED = ("_weight_int4pack_mm_for_cpu", "_weight_int8pack_mm", "_int_mm", "_dyn_quant_matmul_4bit")


@dataclass(frozen=True)
class Machine:
    """Facts, and figures that are empty unless they were measured. Bytes, bytes a second, operations a second."""

    python: str
    system: str
    versions: dict[str, str]
    processor: str
    flags: tuple[str, ...]
    cores: int
    logical: int
    threads: int
    memory: int
    available: int
    compute: str
    kernels: dict[str, bool]
    bandwidth: dict[int, float] = field(default_factory=dict)
    arithmetic: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain = asdict(self)
        return plain | {"flags": list(self.flags), "bandwidth": {str(k): v for k, v in self.bandwidth.items()}}


def facts() -> Machine:
    """What can be known without timing anything."""
    flags = instruction_sets()
    memory = psutil.virtual_memory()
    return Machine(
        python=platform.python_version(), system=f"{platform.system()} {platform.machine()}", versions=versions(),
        processor=processor(), flags=flags, cores=psutil.cpu_count(logical=False) or 1, logical=usable(),
        threads=torch.get_num_threads(), memory=memory.total, available=memory.available,
        compute="bfloat16" if {"AMX-BF16", "BF16"} & set(flags) else "float32", kernels=kernels(),
    )  # fmt: skip


def doctor() -> Machine:
    """``facts`` and the figures, in a few seconds."""
    return Machine(**(vars(facts()) | {"bandwidth": read_bandwidth(), "arithmetic": arithmetic()}))


def versions() -> dict[str, str]:
    """The installed version of each library that results depend on; ``not installed`` where it is not."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def usable() -> int:
    """Logical processors that this process may use; fewer than there are inside a container."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name, as the system gives it."""
    info = _cpuinfo()
    named = info.get("model name") or info.get("Hardware") or _sysctl("machdep.cpu.brand_string")
    return named or platform.processor() or platform.machine() or "unknown"


def instruction_sets() -> tuple[str, ...]:
    """Names of ``FLAGS`` that are there, by the system's word or torch's."""
    info = _cpuinfo()
    listed = set((info.get("flags") or info.get("Features") or "").split())
    told = _torch_flags()
    return tuple(
        name
        for name, (linux, mac, ours) in FLAGS.items()
        if linux in listed or (ours and told.get(ours)) or (mac and not listed and _sysctl(mac) == "1")
    )


def _torch_flags() -> dict[str, Any]:
    found: dict[str, Any] = dict(torch.cpu.get_capabilities())
    return found


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _sysctl(name: str) -> str:
    """A value of macOS's table; empty elsewhere, and where there is no such name."""
    if platform.system() != "Darwin":
        return ""
    found = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def kernels() -> dict[str, bool]:
    """Which fast paths this torch has, each tried on a small product where that is cheap."""
    found = {name: hasattr(torch.ops.aten, name) for name in PACKED}
    found["_int_mm"] = found["_int_mm"] and _runs(lambda: torch._int_mm(*_ones(torch.int8)))
    found["bfloat16 matmul"] = _runs(lambda: torch.mm(*_ones(torch.bfloat16)))
    found["onednn"] = bool(torch.backends.mkldnn.is_available())
    found["mkl"] = bool(torch.backends.mkl.is_available())
    return found


def _ones(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(32, 32, dtype=dtype), torch.ones(32, 32, dtype=dtype)


def _runs(fn: Callable[[], object]) -> bool:
    try:
        fn()
    except (RuntimeError, NotImplementedError):  # how torch says that this build or processor has no such kernel
        return False
    return True
