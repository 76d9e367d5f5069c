"""The names that published checkpoints have for what is inside a tower.

transformers 5 keeps a CLIP or SigLIP tower's layers at ``vision_tower.encoder``, and reads them at
``vision_tower.vision_model.encoder`` too, as every checkpoint before it has them. vLLM reads those alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

KINDS = ("clip_vision_model", "siglip_vision_model")
"""The config's ``model_type`` of such towers."""
INNER = "vision_model"


def towers(model: nn.Module) -> tuple[str, ...]:
    """The paths of the towers inside ``model`` whose names are other ones in published checkpoints."""
    return tuple(
        path
        for path, module in model.named_modules()
        if path and _kind(module) in KINDS and hasattr(module, "encoder") and path.rsplit(".", 1)[-1] != INNER
    )


def _kind(module: nn.Module) -> str | None:
    return getattr(getattr(module, "config", None), "model_type", None)


def published(tensors: Mapping[str, Tensor], inside: tuple[str, ...]) -> dict[str, Tensor]:
    """``tensors`` by their published names."""
    return {published_name(name, inside): value for name, value in tensors.items()}


def published_name(name: str, inside: tuple[str, ...]) -> str:
    """The published name of a tensor or a module."""
    for path in inside:
        if name.startswith(f"{path}."):
            return f"{path}.{INNER}{name.removeprefix(path)}"
    return name


def target(name: str, inside: tuple[str, ...]) -> str:
    """How a ``quantization_config`` names a module for transformers and for vLLM alike.

    vLLM carries dotted names over to those of its own model and takes a name without a dot for a class, so a head (in
    a LLaVA it has it at ``language_model.lm_head``) is a pattern; so is what stands in a tower, whose names differ."""
    for path in inside:
        if name.startswith(f"{path}."):
            rest = name.removeprefix(f"{path}.").replace(".", "[.]")
            return rf"re:(.*[.])?{path.rsplit('.', 1)[-1]}[.]({INNER}[.])?{rest}$"
    return name if "." in name else rf"re:(.*[.])?{name}$"
