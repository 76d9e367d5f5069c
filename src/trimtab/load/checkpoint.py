"""What is checked of a checkpoint folder before any library parses it: no pickles, nothing cut off, nothing missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trimtab.core.errors import BadInput, Refused
from trimtab.core.tensorheader import Entry, read_header

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises BadInput, naming the file, where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file") from error
    except (ValueError, OSError) as error:
        raise BadInput(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path}: got {type(value).__name__}; accepted: a JSON object")
    return value


def check_folder(folder: Path) -> list[Path]:
    """The tensor files of a checkpoint, each read up to its header and found whole.

    Raises Refused for a pickle checkpoint, BadInput for anything missing or damaged.
    """
    if (folder / INDEX).is_file():
        return _check_shards(folder)
    if (folder / SINGLE).is_file():
        read_header(folder / SINGLE)
        return [folder / SINGLE]
    there = sorted(path.name for path in folder.iterdir() if path.is_file())
    if any(name.endswith(PICKLES) for name in there):
        refuse_pickle(folder)
    if "adapter_model.safetensors" in there:
        raise BadInput(f"{folder}: an adapter without its model; accepted: a whole model (merge the adapter first)")
    raise BadInput(f"{folder}: no {SINGLE}; found: {', '.join(there) or 'nothing'}")


def _check_shards(folder: Path) -> list[Path]:
    where = read_json(folder / INDEX).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise BadInput(f"{folder / INDEX}: no 'weight_map' of tensor names to files")
    held: dict[str, dict[str, Entry]] = {}
    for name in sorted(set(map(str, where.values()))):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise Refused(f"{folder / INDEX}: names the file {name!r}; accepted: safetensors files of the same folder")
        held[name] = read_header(folder / name)
    missing = [name for name, file in where.items() if name not in held[file]]
    if missing:
        raise BadInput(f"{folder / INDEX}: {len(missing)} tensors are not where it says: {', '.join(missing[:8])}")
    return [folder / name for name in held]


def refuse_pickle(path: Path) -> None:
    """Raises Refused, with the command that converts a checkpoint whose origin the user trusts."""
    folder = path if path.is_dir() else path.parent
    config = folder / "config.json"
    kind = (read_json(config).get("architectures") or ["AutoModel"])[0] if config.is_file() else "AutoModel"
    raise Refused(
        f"{path}: a pickle checkpoint, which can run any code when it is opened; accepted: safetensors. "
        "If you trust where it comes from, convert it once and use the new folder:\n"
        f'  python -c "import transformers as t; '
        f"t.{kind}.from_pretrained('{folder}', use_safetensors=False).save_pretrained('{folder}-safetensors')\"\n"
        f"  and copy its tokenizer and processor files to {folder}-safetensors"
    )
