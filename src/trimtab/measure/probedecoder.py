"""What a decoder costs beside its products, from decoders of a few small random layers: Python and dispatch in the
library's, calls and layers in a plan, attention over many entries."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.measure.ceilings import Attention, Ceilings, Curve
from trimtab.measure.phases import phases, words
from trimtab.measure.predict import library, passing
from trimtab.measure.predict import planned as predicted
from trimtab.measure.probes import typical
from trimtab.measure.roofline import Operation
from trimtab.measure.vlm import Decoding, parts
from trimtab.runtime.dtype import compute_dtype
from trimtab.runtime.place import engine_for
from trimtab.runtime.plan.model import Planned

FEW, MANY = 2, 10
"""Layers of two decoders that differ in nothing else."""
LAYERS = 4
SPOKEN = 16
SMALL = 64
HEADS, SHARED, HEAD = 8, 2, 64
TOKENS = (64, 256, 1024)
BRIEF = 0.05


def probe(layers: int, width: int = SMALL, inner: int = SMALL, heads: int = 1, shared: int = 1) -> PreTrainedModel:
    """A Llama of random numbers, in what this CPU computes in."""
    config = LlamaConfig(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=shared, head_dim=HEAD, vocab_size=SMALL, max_position_embeddings=2 * TOKENS[-1],
        tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config).to(compute_dtype()).eval()


def seconds_of(model: Any, tokens: int) -> tuple[float, float]:
    """Of a prompt of so many tokens, and of a word behind it: the median of some."""
    run = Decoding(model, words(tokens), {})
    first = typical(run.prefill, BRIEF)
    run.prefill()
    return first, typical(run.decode, BRIEF)


def library_costs() -> dict[str, Any]:
    """``operator``, ``call`` and ``generated`` of ``Ceilings``: two decoders differ by as many operators as are traced;
    ``generate`` does more for a word than the forward that is timed alone."""
    times, counts = [], []
    for layers in (FEW, MANY):
        model = probe(layers)
        times.append(seconds_of(model, 16)[1])
        counts.append(len(phases(anatomies.of(copy.deepcopy(model)), words(16))["decode"]))
    operator = (times[1] - times[0]) / (counts[1] - counts[0])
    spoken = generated(probe(FEW)) - times[0]
    return {"operator": operator, "call": max(times[0] - counts[0] * operator, 0.0), "generated": max(spoken, 0.0)}


@torch.no_grad()
def generated(model: PreTrainedModel) -> float:
    """Seconds of a word by ``generate``, from answers of two lengths."""
    given, times = words(16), []
    for count in (FEW, FEW + SPOKEN):

        def speak(count: int = count) -> Any:
            return model.generate(**given, do_sample=False, max_new_tokens=count, min_new_tokens=count, pad_token_id=0)

        times.append(typical(speak, BRIEF))
    return (times[1] - times[0]) / SPOKEN


def seeing_cost(known: Ceilings) -> float:
    """``seeing`` of ``Ceilings``: a word of a small random LLaVA beside what its operators take."""
    model, batch = tiny.make("llava")
    model = model.to(compute_dtype())
    batch = {name: value.to(model.dtype) if value.is_floating_point() else value for name, value in batch.items()}
    found = parts(model, batch)
    found.prefill()
    seconds = typical(found.decode, BRIEF)
    return max(seconds - library(phases(anatomies.of(copy.deepcopy(model)), batch)["decode"], known), 0.0)


def planned(model: PreTrainedModel) -> Planned | None:
    """``model`` by a plan; None where it has none."""
    anatomy = anatomies.of(model)
    engine, _ = engine_for(anatomy)
    return None if engine is None else Planned(anatomy, engine)


def plan_costs() -> dict[str, Any]:
    """``plan_call`` and ``plan_layer``, from words of two decoders."""
    times = [seconds_of(_made(planned(probe(layers))), 16)[1] for layers in (FEW, MANY)]
    layer = (times[1] - times[0]) / (MANY - FEW)
    return {"plan_layer": layer, "plan_call": max(times[0] - FEW * layer, 0.0)}


def _made(model: Planned | None) -> Planned:
    assert model is not None
    return model


def compiled_attention(known: Ceilings) -> Attention:
    """From prompts and words of a decoder whose layers are little else; what else they do is taken off as predicted."""
    source = probe(LAYERS, heads=HEADS, shared=SHARED)
    model = _made(planned(copy.deepcopy(source)))
    view = anatomies.of(source)
    prompt, word, sizes = [], [], []
    for tokens in TOKENS:
        first, later = seconds_of(model, tokens)
        ops = phases(view, words(tokens))
        done = sum(one.flops * one.share for one in ops["prefill"] if one.kind == "attention")
        prompt.append(done / _left(ops["prefill"], first, known))
        word.append(_left(ops["decode"], later, known) / LAYERS)
        sizes.append(next(one.cache for one in ops["decode"] if one.kind == "attention"))
    return Attention(Curve(tuple(map(float, TOKENS)), tuple(prompt)), Curve(tuple(sizes), tuple(word)))


def _left(operations: Sequence[Operation], seconds: float, known: Ceilings) -> float:
    """Of ``seconds`` what attention took, a tenth of them at least."""
    others = predicted([one for one in operations if one.kind != "attention"], known)
    layers = sum(one.kind == "attention" for one in operations)
    return max(seconds - others - layers * known.plan_layer, seconds / 10)


def plan_row(known: Ceilings) -> float:
    """Seconds of a byte that operators beside products and attention would move in the library, in a plan: from a
    prompt of a decoder whose layers are wider."""
    source = probe(LAYERS, width=512, inner=1536, heads=HEADS, shared=SHARED)
    tokens = 256
    first, _ = seconds_of(_made(planned(copy.deepcopy(source))), tokens)
    ops = phases(anatomies.of(source), words(tokens))["prefill"]
    return max(first - predicted(ops, known), 0.05 * first) / sum(map(passing, ops))
