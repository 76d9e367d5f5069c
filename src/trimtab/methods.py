"""Every method by name: where it is, how to make it from a recipe's knobs, what is said of it. Imports nothing heavy.

A family's table says "module:Class" for each name; the module is imported when its method is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from importlib import import_module
from typing import Any, get_origin, get_type_hints

from trimtab.core.card import Card
from trimtab.core.errors import BadInput, nearest, unknown

STEPS = ("quantize", "prune", "factorize", "adapt", "tokens", "cache")
"""Families whose methods change a model: a recipe's steps."""
FAMILIES = (*STEPS, "robust")

# What other tools call a knob -> what it is called here.
FOREIGN = {
    **dict.fromkeys(("wbits", "w_bit", "num_bits", "nbits", "weight_bits", "k_bits", "v_bits"), "bits"),
    **dict.fromkeys(("groupsize", "q_group_size", "block_size", "w_group_size"), "group_size"),
    **dict.fromkeys(("percdamp", "dampening_frac", "damp"), "damp_percent"),
    **dict.fromkeys(("sym", "is_symmetric"), "symmetric"),
    **dict.fromkeys(("use_double_quant", "bnb_4bit_use_double_quant", "compress_statistics"), "double_quant"),
    **dict.fromkeys(("hadamard_group_size", "hadamard_size", "transform_block_size"), "rotate"),
    **dict.fromkeys(("forward_dtype", "fp_format", "quant_format"), "format"),
    **dict.fromkeys(("keep_ratio", "retain_ratio", "subset_ratio", "keep_rate"), "keep"),
    **dict.fromkeys(
        ("structure", "mask_structure", "sparsity_type", "prune_pattern", "n_m", "prunen", "prunem"), "pattern"
    ),
    **dict.fromkeys(("rank", "lora_r", "lora_rank", "eora_rank", "adapter_rank"), "r"),
    **dict.fromkeys(("alpha",), "lora_alpha"),
    **dict.fromkeys(("dropout",), "lora_dropout"),
    **dict.fromkeys(("lr", "learning-rate"), "learning_rate"),
    **dict.fromkeys(("num_train_epochs", "num_epochs"), "epochs"),
    **dict.fromkeys(("per_device_train_batch_size", "train_batch_size"), "batch_size"),
    **dict.fromkeys(("modules", "target_module"), "target_modules"),
    **dict.fromkeys(("agg_layer", "k", "prune_layer", "layer_idx"), "layer"),
    **dict.fromkeys(("max_capacity_prompt", "max_capacity", "budget", "cache_size"), "capacity"),
    **dict.fromkeys(("window_size", "recent_size", "window_length", "recent"), "window"),
    **dict.fromkeys(("kernel_size", "pool_size", "pooling_size"), "kernel"),
    **dict.fromkeys(("start_size", "num_sinks", "num_sink_tokens", "sink_size"), "sinks"),
    **dict.fromkeys(("residual_length", "residual_size"), "residual"),
}
# These say what is removed (or one cannot tell), so the name alone would not do.
RATES = ("rate", "ratio", "sparsity", "pruning_ratio", "prune_ratio", "pruning_rate", "drop_rate", "r")


def names(controls: bool = False) -> dict[str, tuple[str, str]]:
    """Name -> (family, "module:Class") of every published method, and of the controls where asked."""
    found: dict[str, tuple[str, str]] = {}
    for family in FAMILIES:
        room = import_module(f"trimtab.{family}")
        table = room.METHODS | (getattr(room, "CONTROLS", {}) if controls else {})
        found |= {name: (family, place) for name, place in table.items()}
    return found


def get(name: str) -> type[Any]:
    """The class of a method or control. Raises BadInput with the nearest name where there is none."""
    known = names(controls=True)
    if name not in known:
        raise unknown("method", name, known)
    module, _, found = known[name][1].partition(":")
    kind: type[Any] = getattr(import_module(module), found)
    return kind


def make(name: str, knobs: Mapping[str, Any]) -> Any:
    """The method with these knobs. Raises BadInput that names the knob, what it got and what it takes."""
    kind = get(name)
    accepted = {field.name: field for field in fields(kind)}
    for key in knobs:
        if key not in accepted:
            raise BadInput(f"{name}.{key}: unknown knob{_hint(key, accepted)}; accepted: {', '.join(accepted)}")
    for key, field in accepted.items():
        if key not in knobs and field.default is MISSING and field.default_factory is MISSING:
            raise BadInput(f"{name}.{key}: missing; '- {name}: {{{key}: ...}}' sets it")
    hints = get_type_hints(kind)
    method = kind(**{key: _typed(f"{name}.{key}", value, hints[key]) for key, value in knobs.items()})
    try:
        _check(names(controls=True)[name][0], method)
    except ValueError as error:
        raise BadInput(f"{name}.{error}") from error
    return method


def step(name: str, knobs: Mapping[str, Any]) -> Any:
    """The method of a recipe's step. Raises BadInput, with its place, for one that measures and changes nothing."""
    known = names(controls=True)
    changing = [one for one, (family, _) in known.items() if family in STEPS]
    if name in known and name not in changing:
        raise BadInput(f"steps: {name!r} changes no model; it goes under evaluate: {{robust: {{corruptions: [{name}]}}"
                       f"}}; accepted as a step: {', '.join(changing)}")  # fmt: skip
    if name not in known:
        raise unknown("method", name, changing)
    return make(name, knobs)


def of(family: str) -> tuple[str, ...]:
    """The published methods of a family, in the order of its table."""
    return tuple(name for name, (found, _) in names().items() if found == family)


def knobs(method: Any) -> dict[str, Any]:
    """The knobs of a method, defaults included: ``make(method.CARD.name, knobs(method)) == method``."""
    return {field.name: getattr(method, field.name) for field in fields(method)}


def cards() -> dict[str, Card]:
    """The card of every published method."""
    return {name: get(name).CARD for name in names()}


def _check(family: str, method: Any) -> None:
    """Raises ValueError where the knobs are wrong whatever the model."""
    if family in ("tokens", "cache"):
        method.policy()
    elif family == "quantize":
        method.check(8 * abs(getattr(method, "group_size", 8)) or 64)
    elif family in ("prune", "adapt"):
        method.check(0)  # a row that every pattern divides
    elif family == "robust":
        method.check()
    elif family == "factorize":
        method.check(max(1, method.r))


def _typed(key: str, value: Any, hint: Any) -> Any:
    from pydantic import TypeAdapter, ValidationError

    if get_origin(hint) is tuple and isinstance(value, str | list):
        value = (value,) if isinstance(value, str) else tuple(value)  # YAML has lists only
    try:
        return TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError as error:
        raise BadInput(f"{key}: got {value!r}; {error.errors()[0]['msg']}") from error


def _hint(key: str, accepted: Mapping[str, Any]) -> str:
    if key.lower() in RATES and "keep" in accepted:
        return " (here it is always 'keep', the share that stays: 1 - the rate that is removed)"
    other = FOREIGN.get(key.lower())
    return f" (here it is called {other!r})" if other in accepted else nearest(key, accepted)
