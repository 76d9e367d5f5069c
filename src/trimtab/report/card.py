"""The figures of an artifact's model card: what the report found, for who has the artifact and not the run's folder."""

from __future__ import annotations

from pathlib import Path, PurePath

from trimtab.core.files import write_atomic
from trimtab.load.manifest import FILE, read_manifest
from trimtab.load.model_card import model_card
from trimtab.report.folder import Run
from trimtab.report.markdown import twin
from trimtab.report.view import View


def figures(view: View) -> str:
    """Verdict, figures before and after, steps, robustness and controls as sections of Markdown."""
    return twin("card.md.j2", view=view)


def fill(folder: Path, run: Run, view: View) -> Path | None:
    """Write the card of the run's artifact anew, with its figures; None where the folder holds no artifact.

    ``view`` must be of a run without private names. The card counts neither for the content hash nor for the gate.
    """
    artifact = folder / PurePath(str((run.result.get("artifact") or {}).get("path") or "artifact")).name
    if not (artifact / FILE).is_file():
        return None
    write_atomic(artifact / "README.md", model_card(read_manifest(artifact), figures(view)))
    return artifact / "README.md"
