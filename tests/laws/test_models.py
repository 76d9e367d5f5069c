"""The table of families says what the tests show, for every family that has an anatomy, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

import trimtab
from oracle import close, untouched
from trimtab import docs
from trimtab.anatomy import evidence
from trimtab.anatomy.families import FAMILIES
from trimtab.anatomy.loop import prefill
from trimtab.load import open_source

ROOT = Path(trimtab.__file__).parents[2]


def function(what: str) -> ast.FunctionDef | None:
    """The test that ``tests/...py::name`` names."""
    file, _, name = what.partition("::")
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    return next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def test_what_is_stored_is_what_the_tests_show() -> None:
    rows = evidence.stored()
    assert rows == evidence.current(), "run: make docs"
    assert [row.family for row in rows] == sorted(FAMILIES)


def test_both_tests_run_over_every_tiny_model() -> None:
    """``oracle.FAMILIES`` are all of them, which the law of Anatomy itself asserts."""
    for what, over in ((evidence.LOGITS, "every"), (evidence.ARTIFACT, "sorted(tiny.MODELS)")):
        found = function(what)
        assert found is not None, what
        assert any(over in ast.unparse(one) for one in found.decorator_list), what


def test_evidence_on_real_weights_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = [row.weights for row in evidence.stored() if row.weights]
    assert shown
    for what in shown:
        verb, _, target = what.partition(" ")
        assert function(what) if "::" in what else verb == "make" and f"\n{target}:" in makefile, what


def test_the_page_has_a_line_for_each_family_and_a_cell_for_what_is_shown() -> None:
    rows = (
        evidence.Row("a", "A, B", "yes", "yes", "make x"),
        evidence.Row("b", "", "", "", ""),
    )
    text = docs.models(rows)
    assert "| `a` | `A, B` | yes | yes | `make x` |\n| `b` |  |  |  |  |" in text
    assert evidence.table(rows).splitlines()[1:] == ["a\tA, B\tyes\tyes\tmake x", "b\t\t\t\t"]


@torch.inference_mode()
@pytest.mark.parametrize("name", ["minilm"])
def test_real_weights_answer_in_the_loop_as_in_the_library(name: str) -> None:
    loaded = open_source(f"builtin:{name}")
    batch = dict(loaded.tokenizer(["a small text", "and a longer one, that has more words"], padding=True,
                                  return_tensors="pt"))  # fmt: skip
    valid = batch["attention_mask"].bool()
    wanted = untouched(loaded.library)(**batch).last_hidden_state
    close(prefill(loaded.anatomy, batch).logits[valid], wanted[valid])
