"""A hosted model written as the library's own: every tensor under its name, whatever form the hosts hold it in."""

from __future__ import annotations

import pytest
import torch

from trimtab import anatomy
from trimtab.anatomy import tiny
from trimtab.core.fit import Site
from trimtab.export.state import dense_state
from trimtab.quantize import RTN


@pytest.mark.parametrize("name", sorted(tiny.MODELS))
def test_what_was_hosted_is_written_as_it_was(name: str) -> None:
    model, _ = tiny.make(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    places = {key: value.data_ptr() for key, value in model.state_dict().items()}
    anatomy.of(model)
    found = dense_state(model)
    assert {places[key] for key in found} == set(places.values())  # of tied ones the first
    for key, value in found.items():
        assert value.is_contiguous()
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("name", sorted(tiny.MODELS))
def test_the_library_s_class_takes_a_trimmed_one_and_answers_the_same(name: str) -> None:
    model, batch = tiny.make(name)
    other, _ = tiny.make(name, seed=1)
    method, made = RTN(bits=4, group_size=8), {}
    for key, host in (*anatomy.of(model).linears(), *anatomy.of(model).embeddings()):
        made.setdefault(id(host.w), method(host.w, Site(key, host.w.dense)))
        host.w = made[id(host.w)]
    missing = other.load_state_dict(dense_state(model), strict=False)
    assert missing.unexpected_keys == []
    assert set(missing.missing_keys) <= {"lm_head.weight", "proj_out.weight"}
    answer = tiny.MODELS[name].answer
    with torch.inference_mode():
        found, wanted = getattr(other(**batch), answer), getattr(model(**batch), answer)
    mask = batch.get("attention_mask")
    where = mask.bool() if mask is not None and found.shape[:2] == mask.shape else slice(None)
    assert torch.allclose(found[where], wanted[where], atol=1e-4, rtol=1e-4)
