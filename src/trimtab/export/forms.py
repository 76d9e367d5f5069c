"""What the matrices of an artifact are, in the words of a refusal, and which of them stand in the library's linears."""

from __future__ import annotations

from collections.abc import Iterator

from trimtab.core.blocks import Blocks
from trimtab.core.codebook import Codebook
from trimtab.core.errors import Refused
from trimtab.core.factors import Diagonal
from trimtab.core.joins import leaves
from trimtab.core.linear import Host, Linear, Recast
from trimtab.core.weight import Dense, Quantized, Weight
from trimtab.load.artifact import hosts
from trimtab.load.loaded import Loaded


def say(w: Weight) -> str:
    """``w`` in words: its bits, group and zeros, or the nodes that it is made of."""
    if isinstance(w, Quantized):
        zeros = "symmetric" if w.zero is None else "with zeros"
        return f"codes of {w.bits} bits in groups of {w.group_size}, {zeros}"
    if isinstance(w, Codebook):
        return f"a matrix on {w.levels} levels in groups of {w.group_size}"
    if isinstance(w, Dense):
        return "dense"
    spec = w.spec()
    parts = [str(part["kind"]) for part in spec.get("parts", ())]
    return f"a {spec['kind']} ({', '.join(parts)})" if parts else f"a {spec['kind']} matrix"


def refuse_expressions(loaded: Loaded, name: str, nearest: str) -> None:
    """Raises Refused for the first matrix that is neither dense nor codes on one grid (a mask, a sum, a product with
    AWQ's factors, uneven levels); ``nearest``: what the format takes instead, in words."""
    for path, host in hosts(loaded.anatomy):
        if not isinstance(host.w, Dense | Quantized):
            raise Refused(f"--format {name}: {path} is {say(host.w)}, which the format cannot express{_why(host.w)}; "
                          f"accepted: {nearest}, or --format dense")  # fmt: skip


def _why(w: Weight) -> str:
    """What of ``w`` has no place there, and the nearest that does; empty where its name says enough."""
    kinds = {type(leaf) for leaf in leaves(w)}
    if Codebook in kinds:
        return ": uneven levels are not written, only even steps (nearest: gptq or rtn in place of the step)"
    if kinds == {Quantized, Blocks}:
        return ": its inputs are rotated (nearest: rotate: 0 in the step)"
    if kinds == {Quantized, Diagonal}:
        return (": as awq and mbq leave it, with a factor for each input beside the codes (nearest: --format onnx or "
                "openvino, which take it; gptq or rtn in place of the step)")  # fmt: skip
    return ""


def quantized(loaded: Loaded) -> dict[str, Quantized]:
    """The codes by module path, those of convolutions and other recast modules left out: they are no linears of the
    library's."""
    inner = set(recast(loaded))
    found = ((path, host.w) for path, host in hosts(loaded.anatomy) if path not in inner)
    return {path: w for path, w in found if isinstance(w, Quantized)}


def rounded(loaded: Loaded) -> dict[str, Linear]:
    """The linears that round their input, by module path."""
    return {path: host for path, host in loaded.anatomy.linears() if host.acts is not None}


def unround(loaded: Loaded) -> None:
    """From here on every linear takes its input as it comes."""
    for host in rounded(loaded).values():
        host.acts, host.kernel = None, None


def recast(loaded: Loaded) -> Iterator[str]:
    """Names of the hosts for which a module of ours writes the library's own tensors."""
    for module in loaded.library.modules():
        if isinstance(module, Recast):
            yield from (host.name for host in module.modules() if isinstance(host, Host))
