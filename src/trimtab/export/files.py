"""What stands beside the weights in every exported folder: the library's config, tokenizer and processor files."""

from __future__ import annotations

from pathlib import Path

from trimtab.core.errors import Refused
from trimtab.export.forms import rounded
from trimtab.load.artifact import SOURCE
from trimtab.load.license import papers
from trimtab.load.loaded import Loaded
from trimtab.load.manifest import FILE


def source_of(loaded: Loaded) -> Path:
    """The folder of an artifact in which they lie. Raises Refused for a model that is no artifact."""
    folder = loaded.source.folder
    if folder is None or not (folder / FILE).is_file():
        raise Refused(f"export: {loaded.source.id} is no artifact; accepted: a folder that trimtab run has written")
    return folder / SOURCE


def carry(loaded: Loaded, folder: Path) -> None:
    """Copy them to ``folder``, byte for byte, with the papers of the model's licence."""
    source = source_of(loaded)
    for path in (*sorted(source.iterdir()), *papers(source.parent)):
        (folder / path.name).write_bytes(path.read_bytes())


def refuse_rounding(loaded: Loaded, name: str) -> None:
    """Raises Refused for rounded inputs: what another engine serves would not be what was measured."""
    rounding = list(rounded(loaded))
    if rounding:
        raise Refused(f"--format {name}: {rounding[0]} and {len(rounding) - 1} more round their input to 8 bits, which "
                      "the format is not written with; nearest that is: --format compressed-tensors; or rtn or gptq in "
                      "place of w8a8")  # fmt: skip


def refuse_policies(loaded: Loaded, name: str) -> None:
    """Raises Refused for token and cache policies: what another engine serves would not be what was measured."""
    if loaded.policies:
        names = ", ".join(method.CARD.name for method in loaded.policies)
        raise Refused(f"--format {name}: the artifact has the policies {names}, which another engine cannot follow; "
                      "next: --without-policies, which leaves them behind")  # fmt: skip
