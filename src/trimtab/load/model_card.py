"""The model card (README.md) of an artifact, in the Hugging Face form."""

from __future__ import annotations

import json
from typing import Any

import yaml

from trimtab.load.license import UNKNOWN
from trimtab.load.manifest import Manifest

ABLATION = """\
**ABLATION**: made to compare ways to calibrate (calibrate.audit: ablation). No run of this kind accepts its artifact;
do not serve it."""


def model_card(said: Manifest, figures: str = "") -> str:
    """Front matter, what was modified, licence, figures with their intervals, the calibration audit, how to load.

    ``figures``: sections of Markdown in place of the manifest's own readings: times and peaks of memory are measured
    after the manifest is sealed, and no manifest holds them, since the content hash must not depend on them.
    """
    license_line = (
        "unknown licence: the base model's files do not state one; find out before you pass this on"
        if said.base.license == UNKNOWN
        else f"{said.base.license}, as the base model states it"
    )
    parts = [
        _front(said),
        f"{ABLATION}\n" if said.calibration.get("ablation") else "",
        f"# {said.base.id}, trimmed\n",
        f"Modified: {'; '.join(said.modified) or 'nothing was changed.'}\n",
        f"- Base model: {said.base.id}, revision {said.base.revision}",
        f"- Licence: {license_line}",
        f"- Weights: {said.bytes:,} bytes; the base model in 16 bits takes {said.base.bytes16:,}",
        f"- Content hash: {said.content_hash}\n",
        figures or _quality(said.quality),
        _audit(said.calibration),
        _loading(said),
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _front(said: Manifest) -> str:
    front: dict[str, Any] = {"library_name": "trimtab", "tags": ["trimtab", "compressed"]}
    if said.base.license != UNKNOWN:
        front["license"] = said.base.license
    if said.base.kind == "hub":
        front |= {"base_model": said.base.id, "base_model_relation": "quantized"}
    return f"---\n{yaml.safe_dump(front, sort_keys=True)}---\n"


def _quality(rows: tuple[dict[str, Any], ...]) -> str:
    if not rows:
        return "## Quality\n\nNot measured.\n"
    lines = ["## Quality\n", "| when | figure | value | 95 % interval | n |", "|---|---|---|---|---|"]
    for row in rows:
        spread = row.get("spread")
        interval = f"{spread[0]:.4g} to {spread[1]:.4g}" if spread else ""
        value = f"{row['value']:.4g} {row.get('unit', '')}".strip()
        when, _, name = row["name"].rpartition("/")
        lines.append(f"| {row.get('when', when)} | {name} | {value} | {interval} | {row.get('n', '')} |")
    return "\n".join(lines) + "\n"


def _audit(audit: dict[str, Any]) -> str:
    if not audit:
        return "## Calibration\n\nNone was needed.\n"
    share, task = audit.get("image_share"), audit.get("task_image_share")
    images = f"; {share:.0%} of the tokens were image tokens (the task: {task:.0%})" if share and task else ""
    return f"## Calibration\n\nAudit {audit.get('verdict', UNKNOWN)}: {audit.get('samples', '?')} samples{images}.\n"


def _loading(said: Manifest) -> str:
    policies = ", ".join(f"{policy.method} {json.dumps(policy.knobs)}" for policy in said.policies)
    also = f" Its policies ({policies}) are part of it.\n" if policies else "\n"
    return (
        "## How to load\n\nPlain transformers refuses this folder on purpose: its weights are not in a form that it "
        f'could load faithfully.{also}\n```python\nimport trimtab\n\nloaded = trimtab.load("FOLDER")\n'
        "loaded.model      # called, and generating, as the library's\nloaded.processor\n```\n\n"
        "Check it on your machine: `python -I -m trimtab.gate FOLDER`\n"
    )
