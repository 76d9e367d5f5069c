"""Several models by name: artifacts, originals beside them, adapters; and prompts of models without a template."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from serving import entry, generated, served, talking

from trimtab.adapt import peft
from trimtab.core.errors import BadInput
from trimtab.core.factors import LowRank
from trimtab.load import open_source
from trimtab.load.loaded import Loaded
from trimtab.serve.names import catalogue, entry_of, linked, named
from trimtab.serve.pages import described
from trimtab.serve.prompts import written
from trimtab.serve.schema import Message

BUILTIN = "builtin:easyvqa-llava"


def test_names(tmp_path: Path) -> None:
    (tmp_path / "scans" / "artifact").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    assert named("a=some/folder") == ("a", "some/folder")
    assert named(BUILTIN) == (BUILTIN, BUILTIN)
    assert named(str(tmp_path / "scans" / "artifact")) == ("scans", str(tmp_path / "scans" / "artifact"))
    assert named(str(tmp_path / "model"))[0] == "model"


def test_an_artifact_and_its_original_side_by_side(run_folder: Path, trimmed: Loaded) -> None:
    found = catalogue([str(run_folder / "artifact")], {}, True, 0, 7)
    assert list(found) == ["small", BUILTIN]
    small, base = (described(one) for one in found.values())
    assert small["kind"] == "trimmed"
    assert small["original"] == BUILTIN
    assert small["report"] == "/trimtab/report/small"
    assert small["policies"] == {"weights": "4 bits (rtn)", "tokens": "divprune keep 0.5", "cache": ""}
    assert small["context"] == 2048
    assert small["bytes"] == (run_folder / "artifact" / "trimtab.safetensors").stat().st_size
    assert (base["kind"], base["original"], base["report"]) == ("original", None, None)
    assert base["license"] == small["license"] == "apache-2.0"
    assert found["small"].loaded.engine is not None, "as it was measured, on the runtime's kernels"
    ids = trimmed.tokenizer("what shape is it?\n")["input_ids"]
    with served(*found.values()) as one:
        assert one.client.get("/trimtab/models").json() == {"default": "small", "models": [small, base]}
        assert one.said(ids, max_tokens=5) == generated(trimmed, ids, 5)


def test_the_way_to_a_report_holds_whatever_the_name(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<!doctype html><title>a report</title>", encoding="utf-8")
    odd = replace(entry(talking(), "run #3? 100%/a"), report=tmp_path / "report.html")
    with served(odd) as one:
        way = one.client.get("/trimtab/models").json()["models"][0]["report"]
        assert "report" in one.client.get(way).text


def test_an_adapter_answers_otherwise_than_its_base(tmp_path: Path) -> None:
    """As the model with the adapter's product added to its matrices."""
    base = open_source(BUILTIN)
    path, host = next((name, host) for name, host in base.anatomy.linears() if name.endswith("layers.3.mlp.down_proj"))
    rows, width = host.w.shape
    torch.manual_seed(1)
    low = LowRank(torch.randn(rows, 2), 0.05 * torch.randn(2, width), 2.0)
    peft.write(tmp_path / "lora", {path: low}, BUILTIN, 4.0, False)
    found = catalogue([BUILTIN], {"tuned": str(tmp_path / "lora")}, False, 0, 7)
    assert [(one.id, one.kind) for one in found.values()] == [(BUILTIN, "original"), ("tuned", "adapter")]
    ids = base.tokenizer("what shape is in the image?\n")["input_ids"]
    given = torch.tensor([ids])
    with torch.no_grad():
        before = base.library(given).logits[0, -1]
        host.w = type(host.w)((host.w.dense().float() + low.dense().float()).to(torch.bfloat16))
        after = base.library(given).logits[0, -1]
        here = found["tuned"].loaded.model(given).logits[0, -1]
    assert float((here - after).norm()) < 0.1 * float((after - before).norm())
    with served(*found.values()) as one:
        answer = one.post("/v1/completions", model="tuned", prompt=ids, max_tokens=1, temperature=0, logprobs=0)
        assert answer["model"] == "tuned"
    peft.write(tmp_path / "wrong", {"model.nothing": low}, BUILTIN, 4.0, False)
    with pytest.raises(BadInput, match="another base"):
        catalogue([BUILTIN], {"tuned": str(tmp_path / "wrong")}, False, 0, 7)


def test_two_of_one_name_and_unknown_ones_are_refused() -> None:
    with pytest.raises(BadInput, match="twice"):
        linked([entry(talking()), entry(talking())])
    entries = linked([entry(talking(), "first"), entry(talking(), "second")])
    assert entry_of(entries, "").id == "first"
    with pytest.raises(BadInput, match="nearest: 'second'"):
        entry_of(entries, "secnd")


def test_a_model_without_a_template_reads_pictures_then_text() -> None:
    plain = SimpleNamespace(image_token="<i>", chat_template=None, image_processor=None)
    picture = {"type": "image_url", "image_url": {"url": "x"}}
    messages = [
        Message.model_validate({"role": "user", "content": [picture, {"type": "text", "text": "what?"}, picture]}),
        Message.model_validate({"role": "assistant", "content": "a"}),
    ]
    assert written(plain, messages) == ("<i>\n<i>\nwhat?\na\n", True)


def test_a_template_that_refuses_a_conversation_is_the_clients() -> None:
    loaded = talking()
    loaded.tokenizer.chat_template = "{{ raise_exception('roles must alternate: ' ~ messages[0].content) }}"
    with served(entry(loaded)) as one:
        answer = one.client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "private"}]})
        assert answer.status_code == 400
        assert "private" not in answer.text
        loaded.tokenizer.chat_template = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
        messages = [{"role": "system", "content": "w5"}, {"role": "user", "content": "w6 w7"}]
        found = one.post("/v1/chat/completions", max_tokens=2, messages=messages)
        assert found["usage"]["prompt_tokens"] == 5
