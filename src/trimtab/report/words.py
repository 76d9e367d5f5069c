"""What the report says in sentences: the model, flips, the audit, the loop's check, and how to load the artifact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from trimtab.report.figures import kind, view
from trimtab.report.folder import Run
from trimtab.report.say import plain, points, say


def model(model: dict[str, Any]) -> str:
    """Its name, size and licence; an unknown licence is said to be unknown."""
    count = model.get("parameters")
    size = f"{say(count, 'count')} parameters" if count else ""
    licence = f"licence {model.get('license') or 'not known'}" if model else ""
    return " · ".join(part for part in (str(model.get("id") or ""), size, licence) if part)


def machine(given: dict[str, Any]) -> str:
    """The machine in a line: its processor, cores, threads, memory and what it computes in."""
    memory = given.get("memory")
    parts = (given.get("processor") or given.get("cpu"), f"{given['cores']} cores" if given.get("cores") else None,
             f"{given['threads']} threads" if given.get("threads") else None,
             f"{say(memory, 'bytes')} of memory" if isinstance(memory, int | float) else None,
             given.get("compute"))  # fmt: skip
    return ", ".join(str(part) for part in parts if part) or "not known"


def flips(given: dict[str, Any] | None) -> str:
    """``lost``: answers that became wrong, ``gained``: became right; both count, even where they cancel."""
    if not given or not given.get("n"):
        return ""
    lost, gained, n = int(given.get("lost", 0)), int(given.get("gained", 0)), int(given["n"])
    net = points((gained - lost) / n)
    return (
        f"Of {n:,} questions, {lost:,} became wrong and {gained:,} became right: {lost + gained:,} flips "
        f"({say((lost + gained) / n, 'share')}), net {net}."
    )


def robust(rows: Sequence[dict[str, Any]]) -> str:
    """On which corruptions the trimmed model is surely worse, of rows with paired 95 % intervals."""
    rows = [row for row in rows if kind(str(row.get("figure", ""))).better != "neither" and row.get("view") != "clean"]
    if not rows:
        return ""
    worse = [f"{view(str(row['view']))} ({points(row['change'])})" for row in rows if row["high"] < 0]
    said = f"Surely worse after trimming on: {'; '.join(worse)}." if worse else "On none is a loss sure."
    return f"{said} Each interval alone holds in 95 % of cases; of {len(rows)}, one may miss by chance."


WEIGHED = {
    "balanced": "In the decoder image tokens counted r, by block.",
    "text": "In the decoder only text tokens counted.",
    "image": "In the decoder only image tokens counted.",
}


def audited(audit: dict[str, Any]) -> tuple[str, ...]:
    """What the audit found, its shares, and what calibration lacked."""
    word = audit.get("verdict")
    if not word:
        return ()
    if word == "not needed":
        return ("Not needed: the model takes no images.",)
    words = {
        "passed": "Passed: calibration saw images as the task does.",
        "overridden": "OVERRIDDEN by allow: text_only. Calibration hardly saw images.",
    }
    said = words.get(word, str(word))
    shown, task = audit.get("image_share"), audit.get("task_image_share")
    shares = (
        f"Image tokens were {say(shown, 'share')} of calibration and are {say(task, 'share')} of the task; "
        "under half of the task's share is refused."
        if shown is not None and task is not None else ""
    )  # fmt: skip
    count = f"{audit['samples']:,} samples." if audit.get("samples") else ""
    weighed = WEIGHED.get(str(audit.get("weigh")), "")
    if (audit.get("asked") or 0) > (audit.get("found") or 0):
        count = f"{audit['found']:,} samples, all that there are of the {audit['asked']:,} that were asked for."
    lacks = [f"{lack}." for lack in audit.get("shortfalls") or ()]
    return tuple(part for part in (said, shares, count, weighed, *(str(lack) for lack in lacks[:6])) if part)


def checked(check: dict[str, Any]) -> str:
    """Whether our loop gives what the library's own forward gives, as it was found before the work."""
    if check.get("difference") is None:
        return ""
    return (
        f"Before the work, our loop was held against the library's own forward on {check.get('samples', 0)} samples: "
        f"logits differ by {plain(check['difference'])} at most, {plain(check.get('allowed', 0))} is allowed."
    )


def loading(run: Run) -> tuple[str, str]:
    """How to load the artifact, in Python and in a shell, from the folder that the report is in."""
    path = PurePath(str((run.result.get("artifact") or {}).get("path") or "")).name
    if not path:
        return "", ""
    sees = any(".vision" in name for name in run.names())
    asked = '"question", ["FILE"]' if sees else '"Once upon a time"'
    python = (
        f'import trimtab\n\ntrimmed = trimtab.load("{path}")\n'
        f"answer = trimmed.ask({asked})\n"
        "trimmed.model  # called and generating like the Hugging Face model; trimmed.processor goes with it\n"
    )
    image = "--image FILE " if sees else ""
    words = '"question"' if sees else '"Once upon a time"'
    return python, f"trimtab generate {path} {image}{words}\npython -I -m trimtab.gate {path}\n"
