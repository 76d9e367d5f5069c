"""Texts for language models: what perplexity is measured on, and what calibrates, with no sentence in common.

Built in: the evaluation text is Python's language reference (``pydoc_data.topics``), the calibration text the
docstrings of the standard library. Both come with every Python and differ between its versions, so their hash is
recorded (``digest``). A user's own file is cut in two: the first part calibrates, the last is measured on.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from functools import cache
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Integer
from torch import Tensor

from trimtab.core.errors import BadInput, nearest
from trimtab.data.task import Task

WINDOWS, LENGTH = 24, 512  # the perplexity protocol
SHINGLE = 8  # no so many words in a row stand in both texts
OWN_TRAIN_SHARE = 0.5


class Words(Protocol):
    """A Hugging Face tokenizer, as far as it is used here."""

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]: ...


@cache
def evaluation() -> str:
    """The built-in evaluation text: all topics in the order of their names."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


@cache
def calibration() -> str:
    """The built-in calibration text: docstrings of the standard library's single-file modules, by file name, less what
    the topics also say.

    Source files are parsed, not imported. Raises BadInput on a Python without its library's source.
    """
    root = Path(sysconfig.get_path("stdlib"))
    seen = _shingles(evaluation())
    found: list[str] = []
    for path in sorted(root.glob("*.py")):
        found += [text for text in _docstrings(path) if not (_shingles(text) & seen)]
    text = "\n\n".join(dict.fromkeys(found))
    if len(text) < 100_000:
        raise BadInput("calibrate.dataset 'text': this Python comes without its library's source; give a text file "
                       "of your own: {type: text, data: FILE}")  # fmt: skip
    return text


def _docstrings(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # templates and deliberately broken files of the library itself
        return []
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, holders)]
    return [text for text in texts if text and len(text) > 200]


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = text.casefold().split()
    return {tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}


def text_of(task: Task, part: str) -> str:
    """The text of ``train`` or ``test``. Raises BadInput on a missing, undecodable or short file."""
    if task.dataset is not None:
        return calibration() if part == "train" else evaluation()
    whole = _own(Path(task.data or ""))
    cut = whole.find("\n", int(len(whole) * OWN_TRAIN_SHARE)) + 1 or len(whole) // 2
    return whole[:cut] if part == "train" else whole[cut:]


def _own(path: Path) -> str:
    files = sorted(path.rglob("*.txt")) + sorted(path.rglob("*.md")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        near = nearest(path.name, [one.name for one in path.parent.glob("*")]) if path.parent.is_dir() else ""
        raise BadInput(f"task.data: no text file {str(path)!r}{near}")
    texts = []
    for number, one in enumerate(files, 1):
        raw = one.read_bytes()
        try:
            texts.append(raw.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            raise BadInput(f"task.data: file {number}, line {line}: not UTF-8; save it as UTF-8") from error
    return "\n".join(texts)


def windows(
    text: str, words: Words, count: int | None = WINDOWS, length: int = LENGTH
) -> Integer[Tensor, "windows length"]:
    """The first ``count`` windows of ``length`` tokens, without special tokens; all whole ones for None.

    Raises BadInput, with numbers, where the text is too short for ``count`` (or for one).
    """
    near = len(text) if count is None else 16 * count * length  # characters: the rest of a long text is not needed
    ids = words(text[:near], add_special_tokens=False)["input_ids"]
    if count is not None and len(ids) <= count * length and near < len(text):
        ids = words(text, add_special_tokens=False)["input_ids"]
    have = len(ids) // length
    if have < (count or 1):
        raise BadInput(f"text: {len(ids)} tokens make {have} windows of {length}; {count or 1} are needed: give a "
                       "longer text, or fewer or shorter windows")  # fmt: skip
    return torch.tensor(ids[: (count or have) * length]).view(-1, length)


def digest(text: str) -> str:
    """SHA-256 of a text, recorded beside figures: the built-in texts differ between versions of Python."""
    return hashlib.sha256(text.encode()).hexdigest()
