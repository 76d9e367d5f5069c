"""What a report must not hold: paths and names of a user's files, and prompts. Withheld from every text of the run.

The recipe says what they are, so they are known exactly: the values of ``data``, ``image_root`` and ``prompt``, and the
model where it is a local one. Each is replaced wherever it stands, in the recipe, notes, machine, names of figures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml

from trimtab.core.errors import BadInput
from trimtab.report.folder import Run

WITHHELD = "(withheld)"
PATHS = ("data", "image_root")
LOCAL = re.compile(r"^[/~.]|^[A-Za-z]:[\\/]|\\|\.gguf$|/.*/")  # what no hub id and no built-in name looks like


def public(run: Run) -> Run:
    """``run`` with a user's paths, file names and prompts withheld, samples left out."""
    recipe = _parse(run.recipe)
    known = run.result.get("model", {})
    scrub = scrubber([recipe], str(known.get("id") or ""), known.get("kind") in ("folder", "gguf", "artifact"))
    figures = {
        (when, scrub(name)): replace(one, name=scrub(name), how=scrub(one.how))
        for (when, name), one in run.figures.items()
    }
    text = yaml.safe_dump(scrub(recipe), sort_keys=False, default_flow_style=None, width=88) if recipe else ""
    return replace(run, result=scrub(run.result), figures=figures, recipe=text, samples=None)


def scrubber(recipes: Sequence[dict[str, Any]], model: str, local: bool = False) -> Callable[[Any], Any]:
    """What withholds, from plain data of any depth, what these recipes name: paths, file names, prompts, and a model
    that is (``local``) or looks like one on this machine."""
    secrets = dict.fromkeys(_found(list(recipes)), WITHHELD)
    given = {str(name) for name in (*(recipe.get("model") for recipe in recipes), model) if name}
    secrets |= dict.fromkeys((name for name in given if local or _looks_local(name)), "(local model)")
    names = {PureWindowsPath(text).stem for text in secrets if PureWindowsPath(text).suffix}
    words = sorted(secrets, key=len, reverse=True)

    def scrub(value: Any) -> Any:
        if isinstance(value, dict):
            return {scrub(key): scrub(item) for key, item in value.items()}
        if isinstance(value, list):
            return [scrub(item) for item in value]
        return _scrubbed(value, words, secrets, names) if isinstance(value, str) else value

    return scrub


def _scrubbed(text: str, words: list[str], secrets: dict[str, str], names: set[str]) -> str:
    for word in words:
        text = text.replace(word, secrets[word])
    for name in names:  # accuracy.<file's name>, as figures are called
        text = re.sub(rf"(?<=\.){re.escape(name)}\b", WITHHELD, text)
    return text


def _parse(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text) if text else {}
    except yaml.YAMLError as error:
        raise BadInput(f"recipe.resolved.yaml: not YAML ({type(error).__name__})") from error
    if not isinstance(found, dict):
        raise BadInput(f"recipe.resolved.yaml: got {type(found).__name__}; a recipe is a mapping")
    return found


def _found(node: Any) -> set[str]:
    """Every path, the last part of each, and every prompt in a recipe."""
    if isinstance(node, list):
        return set().union(*(_found(item) for item in node)) if node else set()
    if not isinstance(node, dict):
        return set()
    secrets: set[str] = set()
    for key, value in node.items():
        if key in PATHS and isinstance(value, str) and value:
            secrets |= {value, *([PureWindowsPath(value).name] if PureWindowsPath(value).suffix else [])}
        elif key == "prompt" and isinstance(value, str) and value:
            secrets.add(value)
        else:
            secrets |= _found(value)
    return secrets


def _looks_local(name: str) -> bool:
    return bool(LOCAL.search(name)) or (":" not in name and Path(name).exists())
