"""Before anything is changed: our loop gives what the library's forward gives, and the recipe fits the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trimtab import methods
from trimtab.anatomy import loop
from trimtab.core.errors import Anomaly, BadInput
from trimtab.run import adapt, calibration
from trimtab.run.context import Context
from trimtab.run.follow import clashes
from trimtab.run.recipe import Recipe
from trimtab.run.targets import select

# In bf16 the two orders of summation differ by rounding; what a wrong position or mask does is far above this.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}


@torch.no_grad()
def loop_equals_library(context: Context) -> dict[str, Any]:
    """Two of the user's samples through both. Raises Anomaly where they differ by more than rounding."""
    batch = calibration.sample_batch(context, 2)
    library = context.loaded.library
    theirs: Tensor = library(**batch).logits
    ours: Tensor = loop.prefill(context.loaded.anatomy, batch).logits
    valid = batch["attention_mask"].bool()
    difference = (ours - theirs)[valid].abs().max().item()
    scale = theirs[valid].abs().max().item()
    allowed = TOLERANCE[theirs.dtype] * scale
    if not difference <= allowed:
        raise Anomaly(
            f"our loop and the library's forward differ by {difference:.2e} (allowed: {allowed:.2e}) on your samples; "
            "nothing was changed. The anatomy of this architecture does not fit this model"
        )
    return {"difference": difference, "allowed": allowed, "samples": 2}


def fits(context: Context) -> None:
    """The task, and every step's targets, shapes and places, and what it may follow, before the work. Raises BadInput
    that names the key, the layer and the nearest value."""
    anatomy = context.loaded.anatomy
    sees = any(block.part == "projector" for block in anatomy.blocks())
    kind = anatomy.model.config.model_type
    if not anatomy.decodes:
        raise BadInput(f"model: a run measures models that generate text in the loop; {kind!r} does not (its layers "
                       "can be trimmed by trimtab.run.walk)")  # fmt: skip
    for task in (context.recipe.task, *context.recipe.also):
        if task.type != "text" and not sees:
            raise BadInput(f"task.type: {task.type!r} shows pictures, and {kind!r} takes none; accepted: text")
    if context.loaded.streamed:
        in_memory(context.recipe)
    policies = []
    hosts = dict(anatomy.linears()) | dict(anatomy.embeddings())
    for index, step in enumerate(context.recipe.steps):
        method = methods.make(step.method, step.knobs)
        family = method.CARD.family
        if method.CARD.wants_source and context.loaded.manifest is not None:
            raise BadInput(f"steps.{index}.{step.method}: makes up for what was lost of the original matrices, and an "
                           "artifact no longer has them; accepted: the model it was made from, trimmed in the same "
                           "recipe")  # fmt: skip
        if family in ("tokens", "cache"):
            if family == "tokens" and not sees:
                raise BadInput(f"steps.{index}.{step.method}: {kind!r} has no image tokens to keep or drop")
            policies.append(method.policy())
            continue
        if family == "adapt":
            adapt.check(context, step.method, method)
            continue
        for name in select(anatomy, step.targets or ("all-linear",), step.ignore):
            try:
                method.check(*reversed(hosts[name].w.shape))
            except ValueError as error:
                raise BadInput(f"steps.{index}.{step.method}: {name}: {error}") from error
    for clash in clashes(anatomy, context.recipe.steps):
        raise BadInput(clash)
    loop.by_layer(anatomy, policies)
    loop.of_cache(anatomy, policies)


def in_memory(recipe: Recipe) -> None:
    """Raises BadInput for what needs the whole model in memory, where its weights are read as they are needed."""
    for axis in ("prefill", "decode", "memory", "cache"):
        if getattr(recipe.budget, axis) is not None:
            raise BadInput(f"budget.{axis}: the model as it came is read from its files as it is needed, so there is "
                           "nothing to compare with; accepted: accuracy, perplexity, weights, or stream: "
                           "false")  # fmt: skip
    for index, step in enumerate(recipe.steps):
        if step.method == "lora":
            raise BadInput(f"steps.{index}.lora: training holds every matrix at once, and this model is read from its "
                           "files as it is needed; accepted: stream: false, or training the artifact")  # fmt: skip
