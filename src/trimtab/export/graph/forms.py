"""What can be drawn as a graph, and what is written otherwise than it stands in the artifact. Needs no engine."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec

from trimtab.core.blocks import Blocks
from trimtab.core.codebook import Codebook
from trimtab.core.errors import Refused, nearest
from trimtab.core.factors import Diagonal, LowRank
from trimtab.core.joins import Chain, Sum, leaves
from trimtab.core.linear import Embedding, Linear
from trimtab.core.weight import Dense, Quantized, Weight
from trimtab.export.forms import say
from trimtab.export.integers import container
from trimtab.load.artifact import hosts
from trimtab.load.loaded import Loaded

LANGUAGE, ENCODER, TOWERS, SEEING = "language", "encoder", "towers", "seeing"
DRAWN = {
    **dict.fromkeys(("gemma3_text", "gpt_neox", "llama", "mistral", "opt", "phi", "phi3", "qwen2", "qwen3"), LANGUAGE),
    "bert": ENCODER, "clip": TOWERS, "llava": SEEING,
}  # fmt: skip
"""By ``config.model_type``, in which graphs."""
INSTEAD = {Codebook: "gptq or rtn in place of the step, or ", Blocks: "rotate: 0 in the step, or "}
"""Of what no graph holds, the nearest in a recipe."""
PACKAGES = ("onnx", "onnx_ir", "onnxscript")
"""What draws."""


def refuse(loaded: Loaded, name: str) -> None:
    """Raises Refused, for the format ``name``, where a package that draws is missing; for an architecture that is not
    drawn; and for the first host whose form a graph cannot hold."""
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise Refused(f"--format {name}: needs {', '.join(missing)}; next: pip install 'trimtab[{name}]'")
    kind = loaded.library.config.model_type
    if kind not in DRAWN:
        raise Refused(f"--format {name}: got the architecture {kind!r}{nearest(kind, DRAWN)}; accepted: "
                      f"{', '.join(sorted(DRAWN))}; nearest that takes it: --format dense")  # fmt: skip
    for path, host in hosts(loaded.anatomy):
        _form(path, host.w, isinstance(host, Embedding))


def _form(name: str, w: Weight, table: bool) -> None:
    if table and not isinstance(w, Dense | Quantized):
        raise Refused(f"{name}: got a word table that is {say(w)}; accepted in a graph: dense or quantized; "
                      "nearest: --format dense")  # fmt: skip
    if isinstance(w, Sum | Chain):
        for part in w:
            _form(name, part, False)
    elif not isinstance(w, Dense | Quantized | LowRank | Diagonal):
        raise Refused(f"{name}: got {say(w)}; accepted in a graph: dense, quantized, low_rank, diagonal, and sums and "
                      f"chains of them; nearest: {INSTEAD.get(type(w), '')}--format dense")  # fmt: skip


def tied(loaded: Loaded) -> frozenset[str]:
    """Names of hosts whose weight is a word table and a linear at once."""
    found = [host for _, host in hosts(loaded.anatomy)]
    tables = {id(host.w) for host in found if isinstance(host, Embedding)}
    both = tables & {id(host.w) for host in found if isinstance(host, Linear)}
    return frozenset(host.name for host in found if id(host.w) in both)


def notes(loaded: Loaded) -> list[str]:
    """Sentences on arithmetic, containers and what stays dense."""
    said = ["matrices are (codes - zeros) * scales in float32, not rounded to the artifact's dtype; so is the check"]
    found = hosts(loaded.anatomy)
    every = {id(leaf): leaf for _, host in found for leaf in leaves(host.w)}
    small = [leaf for leaf in every.values() if isinstance(leaf, Quantized) and container(leaf.bits) > leaf.bits]
    if small:
        named = " and ".join(
            f"{count} of {bits} bits" for bits, count in sorted(Counter(w.bits for w in small).items())
        )
        extra = sum(w.shape[0] * w.shape[1] * (container(w.bits) - w.bits) // 8 for w in small)
        said.append(f"matrices in containers of 4 bits, the same numbers: {named}; {extra:,} bytes more")
    dense = [name for name, host in found if not any(isinstance(leaf, Quantized) for leaf in leaves(host.w))]
    if dense:
        shown = ", ".join(dense[:4]) + (", ..." if len(dense) > 4 else "")
        said.append(f"matrices that are dense, as in the artifact: {len(dense)} ({shown})")
    return said
