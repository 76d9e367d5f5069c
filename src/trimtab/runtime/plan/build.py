"""A model's decoder as the structures of native/decode.h, or why it cannot be one.

Nothing is taken by a class's name: norms and gated units by their answers (``trimtab.core.norm``, ``gated``), and the
whole by those of its layers (``verify``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.anatomy.base import Anatomy
from trimtab.anatomy.decoder import STAGES, Decoder
from trimtab.core import gated, norm
from trimtab.core.errors import BadInput
from trimtab.core.factors import LowRank
from trimtab.core.joins import Sum
from trimtab.core.linear import Embedding, Linear
from trimtab.core.weight import Dense, Weight
from trimtab.runtime.arena import Arena
from trimtab.runtime.compiled import Compiled
from trimtab.runtime.compose import Added
from trimtab.runtime.plan import structs
from trimtab.runtime.plan.angles import FIRST, Angles
from trimtab.runtime.plan.layout import Laid, chunk_of, laid

SPAN = 4096
"""Positions where a model does not say how many it has."""
SCALED = ("dynamic", "longrope")
"""Rotary angles that depend on how long the text is."""
NORMS = {
    "input_layernorm": "before_attention", "post_attention_layernorm": "after_attention",
    "pre_feedforward_layernorm": "before_mlp", "post_feedforward_layernorm": "after_mlp",
}  # fmt: skip
"""The library's name of a layer's norm, where norms stand on both sides."""
MATRICES = dict(zip(
    (name for stage in STAGES for name in stage), ("query", "key", "value", "out", "gate", "up", "down"), strict=True
))  # fmt: skip


RANKS = 32
"""What is made to divide the rank of thin factors: a tile's inputs."""


class Unfit(Exception):
    """Why a model has no plan."""


@dataclass
class Plan:
    """``spec`` as the library is given it; ``holds`` what it points to. ``read``: bytes of the matrices that a token
    reads, tables by one row. ``anatomy``: whose it is; ``laid``: by id of its weights, what is read of them; ``layers``
    of ``spec``, with their ``angles``."""

    anatomy: Anatomy
    spec: structs.Decoder
    read: int
    laid: Mapping[int, Laid]
    layers: Any
    angles: Angles
    holds: list[Any] = field(default_factory=list)

    def reach(self, positions: int) -> None:
        """Angles for at least so many positions."""
        if positions > self.spec.positions:
            span = min(max(positions, 2 * self.spec.positions), self.angles.most)
            for layer, (cos, sin) in zip(self.layers, self.angles.of_layers(span), strict=True):
                layer.cos, layer.sin = cos.data_ptr(), sin.data_ptr()
            self.spec.positions = span

    @property
    def count(self) -> int:
        return int(self.spec.count)

    @property
    def words(self) -> int:
        return int(self.spec.head.out)


def planned(anatomy: Anatomy, level: int, span: int | None = None) -> Plan | str:
    """The plan of ``anatomy``'s decoder for ``span`` positions, by default all that the model has, or why there is
    none."""
    decoder = getattr(anatomy, "decoder", None)
    if not isinstance(decoder, Decoder):
        return "no stack of decoder layers"
    if span is None:
        span = getattr(decoder.module.config, "max_position_embeddings", None) or SPAN
    try:
        return _Build(anatomy, decoder).plan(level, span)
    except Unfit as why:
        return str(why)


def apart(w: Weight) -> tuple[Weight, list[LowRank]]:
    """``w`` and nothing, or the one part of a sum that is no pair of thin factors, and the pairs."""
    parts = list(w) if isinstance(w, Sum) else [w]
    thin = [part for part in parts if isinstance(part, LowRank)]
    if len(thin) + 1 != len(parts):
        return w, []
    return next(part for part in parts if not isinstance(part, LowRank)), thin


class _Build:
    def __init__(self, anatomy: Anatomy, decoder: Decoder) -> None:
        self.anatomy, self.decoder, self.stack = anatomy, decoder, decoder.module
        self.width: int = decoder.module.config.hidden_size
        self.holds: list[Any] = []
        self.laid: dict[int, Laid] = {}
        self.arena = Arena()
        self.read = 0

    def plan(self, level: int, span: int) -> Plan:
        config, layers = self.stack.config, list(self.stack.layers)
        if self.decoder.stages != STAGES or self.decoder.rotary is None:
            raise Unfit(f"{config.model_type}: layers of another layout than {', '.join(MATRICES)}")
        rotary = getattr(config, "rope_parameters", None) or {}
        kinds = [rotary, *(one for one in rotary.values() if isinstance(one, dict))]
        if any(one.get("rope_type") in SCALED for one in kinds):
            raise Unfit("rotary angles that depend on how long the text is")
        made, first = (structs.Layer * len(layers))(*map(self.layer, range(len(layers)), layers)), min(span, FIRST)
        angles = Angles(self.decoder, span)
        try:
            turns = angles.of_layers(first)
        except BadInput as error:
            raise Unfit(str(error)) from error
        for one, (cos, sin) in zip(made, turns, strict=True):
            one.cos, one.sin = cos.data_ptr(), sin.data_ptr()
        table, head = getattr(self.stack, self.decoder.table), self.anatomy.model.get_output_embeddings()
        if not isinstance(table, Embedding) or not isinstance(head, Linear):
            raise Unfit("word table or head: no hosts")
        attention = layers[0].self_attn
        sizes = (config.hidden_size, config.num_attention_heads * attention.head_dim,
                 config.num_key_value_heads * attention.head_dim)  # fmt: skip
        self.same(made, sizes, {table.w.shape[1], head.w.shape[1]})
        ends, beside = self.host(head)
        if beside.down.codes:
            raise Unfit("head: thin factors beside its matrix")
        spec = structs.Decoder(
            layers=ctypes.addressof(made), table=self.matrix(table.w, None, counts=False), head=ends,
            last=self.norm(getattr(self.stack, self.decoder.norm), self.width), count=len(layers), width=self.width,
            heads=config.num_attention_heads, shared=config.num_key_value_heads, size=attention.head_dim,
            turned=2 * turns[0][0].shape[1], inner=made[0].gate.out, positions=first, level=level,
            ends=chunk_of([ends]), chunk=chunk_of(getattr(layer, name) for layer in made for name in structs.MATRICES),
            factor=float(torch.tensor(table.factor, dtype=table.w.dtype)),
            cap=getattr(config, "final_logit_softcapping", None) or 0.0,
        )  # fmt: skip
        return Plan(self.anatomy, spec, self.read, self.laid, made, angles, self.holds)

    def same(self, made: Any, sizes: tuple[int, int, int], ends: set[int]) -> None:
        """Raises Unfit where matrices are not of the sizes that the library takes all layers to have: ``sizes`` of a
        stream, of all queries and of all keys of a token; ``ends``: what word table and head say of the first."""
        width, wide, narrow = sizes
        inner = made[0].gate.out
        wanted = {"query": (wide, width), "key": (narrow, width), "value": (narrow, width), "out": (width, wide),
                  "gate": (inner, width), "up": (inner, width), "down": (width, inner)}  # fmt: skip
        for index, one in enumerate(made):
            for name, shape in wanted.items():
                found = getattr(one, name)
                if (found.out, found.width) != shape:
                    raise Unfit(f"layer {index}: {name} is {found.out} x {found.width}, not {shape[0]} x {shape[1]}")
        if ends != {width} or wide % narrow:
            raise Unfit(f"streams of {width} beside word tables of {sorted(ends)}, or {wide} and {narrow} of heads")

    def layer(self, index: int, layer: Any) -> structs.Layer:
        attention, kind = layer.self_attn, gated.kind_of(layer.mlp)
        if kind is None:
            raise Unfit(f"layer {index}: its MLP is no gated unit with SiLU or GELU by tanh")
        made = structs.Layer(
            window=self.decoder.windows[index] or 0, activation=kind, scaling=attention.scaling,
            cap=getattr(attention, "attn_logit_softcapping", None) or 0.0,
        )  # fmt: skip
        sandwich = hasattr(layer, "pre_feedforward_layernorm")
        for name, where in NORMS.items():
            if hasattr(layer, name):
                setattr(made, where if sandwich or where == "before_attention" else "before_mlp",
                        self.norm(getattr(layer, name), self.width))  # fmt: skip
        for name, where in (("q_norm", "of_query"), ("k_norm", "of_key")):
            if hasattr(attention, name):
                setattr(made, where, self.norm(getattr(attention, name), attention.head_dim))
        for name, where in MATRICES.items():
            whole, beside = self.host(layer.get_submodule(name))
            setattr(made, where, whole)
            made.thin[structs.MATRICES.index(where)] = beside
        return made

    def norm(self, module: nn.Module, width: int) -> structs.Norm:
        form = norm.form_of(module)
        if form is None or form.weight.shape != (width,):
            raise Unfit(f"a norm that is no RMS norm over {width}")
        return structs.Norm(weight=self.keep(form.weight), kind=1, eps=form.eps)

    def host(self, host: Any) -> tuple[structs.Matrix, structs.Thin]:
        """Its matrix with the bias, and what is added to that."""
        if not isinstance(host, Linear):
            raise Unfit(f"a {type(host).__name__} where a linear is looked for")
        if host.acts is not None:
            raise Unfit(f"{host.name}: rounds its input")
        bias = None if host.bias is None else host.bias.detach().float().contiguous()
        whole, beside = apart(host.w)
        kernel: Any = host.kernel
        if isinstance(kernel, Added) and isinstance(host.w, Sum):
            kernel = dict(zip(map(id, host.w), kernel.parts, strict=True)).get(id(whole))
        if isinstance(kernel, Compiled):
            self.laid.setdefault(id(whole), kernel.laid)
        return self.matrix(whole, bias), self.thin(beside) if beside else structs.Thin()

    def thin(self, beside: Sequence[LowRank]) -> structs.Thin:
        """The factors of all, one below the other, up to a multiple of ``RANKS`` with zeros."""
        down = torch.cat([one.right.detach() for one in beside])
        up = torch.cat([one.left.detach().float() * one.scale for one in beside], 1).to(down.dtype)
        missing = -len(down) % RANKS
        made = Dense(F.pad(down, (0, 0, 0, missing))), Dense(F.pad(up, (0, missing)))
        self.holds += made  # so that no other weight gets their ids
        return structs.Thin(*(self.matrix(one, None) for one in made))

    def matrix(self, w: Weight, bias: Tensor | None, counts: bool = True) -> structs.Matrix:
        """``counts``: all of it is read for a token."""
        if id(w) not in self.laid:
            found = laid(w)
            if isinstance(found, str):
                raise Unfit(found)
            self.laid[id(w)] = self.arena.place(found)
        self.holds.append(self.laid[id(w)])
        if bias is not None:
            self.holds.append(bias)
        self.read += counts * self.laid[id(w)].nbytes
        return self.laid[id(w)].matrix(bias)

    def keep(self, value: Tensor) -> int:
        self.holds.append(value)
        return value.data_ptr()
