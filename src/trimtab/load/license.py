"""The licence of a model, as its files state it; nothing is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from trimtab.core.errors import BadInput

UNKNOWN = "unknown"
HEADS = {"apache license": "apache-2.0", "mit license": "mit", "bsd 3-clause": "bsd-3-clause"}
PAPERS = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING", "NOTICE", "NOTICE.txt", "NOTICE.md")


def front_matter(card: Path) -> dict[str, Any]:
    """The YAML between the two ``---`` lines that open a model card; empty where there is none.

    Raises BadInput, naming the file, where it is no YAML.
    """
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if not text.startswith("---\n"):
        return {}
    try:
        value = yaml.safe_load(text[4:].partition("\n---")[0])
    except yaml.YAMLError as error:
        raise BadInput(f"{card}: the front matter is not YAML ({error})") from error
    return value if isinstance(value, dict) else {}


def license_of(folder: Path) -> str:
    """From the model card's front matter, else from the first lines of LICENSE, else ``unknown``."""
    front = front_matter(folder / "README.md")
    named = front.get("license_name") if front.get("license") == "other" else front.get("license")
    if named:
        return str(named)
    for path in papers(folder):
        head = path.read_text(encoding="utf-8", errors="replace")[:400].lower()
        found = [name for words, name in HEADS.items() if words in head]
        if found:
            return found[0]
    return UNKNOWN


def papers(folder: Path) -> list[Path]:
    """LICENSE and NOTICE files of a model's folder."""
    return [folder / name for name in PAPERS if (folder / name).is_file()]
