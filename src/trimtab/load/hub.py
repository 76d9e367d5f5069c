"""Models on the Hugging Face hub: one revision, safetensors only, from the local cache where it is there."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from trimtab.core.errors import BadInput
from trimtab.load.checkpoint import INDEX, PICKLES, SINGLE, refuse_pickle

ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
WANTED = ["*.json", "model*.safetensors", "*.jinja", "*.txt", "*.model", "README.md", "LICENSE*", "NOTICE*"]


def hub_folder(name: str, revision: str | None = None, code: bool = False) -> Path:
    """The folder of a model's files at ``revision``; its name is the commit. ``code``: Python files come along.

    Raises BadInput that says which model, revision, file or network is missing; Refused for pickles.
    """
    at = f"{name}@{revision}" if revision else name
    try:
        found = snapshot_download(name, revision=revision, allow_patterns=[*WANTED, *(["*.py"] if code else [])])
    except GatedRepoError as error:
        raise BadInput(f"model: {at} asks for its terms to be accepted on {constants.ENDPOINT}/{name}") from error
    except RevisionNotFoundError as error:
        raise BadInput(f"model: {name} has no revision {revision!r}; accepted: a branch, tag or commit") from error
    except RepositoryNotFoundError as error:
        raise BadInput(f"model: no {name!r} on the hub (or it is private), and no folder of that name") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        why = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else f"{constants.ENDPOINT} cannot be reached"
        raise BadInput(
            f"model: {at} is neither a folder nor in the hub's cache ({constants.HF_HUB_CACHE}), and {why}; "
            f"next, with network: hf download {name}"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise BadInput(f"model: {at} cannot be fetched: {error}") from error
    return _complete(Path(found), at)


def _complete(folder: Path, at: str) -> Path:
    if not (folder / "config.json").is_file():
        raise BadInput(f"model: {at} has no config.json in {folder}; accepted: a model in the library's layout")
    if not any((folder / name).is_file() for name in (SINGLE, INDEX)):
        if any(path.name.endswith(PICKLES) for path in folder.iterdir()):
            refuse_pickle(folder)
        raise BadInput(
            f"model: {at} has no {SINGLE} in {folder}: it was not downloaded, or the repository holds pickles only "
            f"(pytorch_model.bin), which are refused; next, with network: hf download {at.partition('@')[0]} {SINGLE}"
        )
    return folder
