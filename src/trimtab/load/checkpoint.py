"""What is checked of a checkpoint folder before any library parses it: no pickles, nothing cut off, nothing missing."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.core.errors import BadInput, Refused

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
HEADER_LIMIT = 100_000_000
# bytes of one element
WIDTHS = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A tensor in a safetensors file: its bytes are [begin, end) behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


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


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of a safetensors file, every bound checked: header length, types, sizes, gaps, end of file.

    Raises BadInput that names the file and what is wrong with it.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(HEADER_LIMIT, size - 8):
            raise BadInput(f"{path}: corrupt or truncated safetensors: {size} bytes cannot hold a header of {length}")
        try:
            table = json.loads(file.read(length))
        except ValueError as error:
            raise BadInput(f"{path}: corrupt safetensors: the header is not JSON") from error
    if not isinstance(table, dict):
        raise BadInput(f"{path}: corrupt safetensors: the header is no table of tensors")
    found = {name: _entry(path, name, row) for name, row in table.items() if name != "__metadata__"}
    reached = 0
    for name, entry in sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != reached:
            raise BadInput(f"{path}: corrupt safetensors: {name} begins at {entry.begin}, not at {reached}")
        reached = entry.end
    if reached != size - 8 - length:
        raise BadInput(f"{path}: truncated or corrupt safetensors: {size - 8 - length} bytes of tensors, not {reached}")
    return found


def _entry(path: Path, name: str, row: Any) -> Entry:
    try:
        entry = Entry(row["dtype"], tuple(map(int, row["shape"])), *map(int, row["data_offsets"]))
        width = WIDTHS[entry.dtype]
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: corrupt safetensors: the entry of {name} is {str(row)[:80]}") from error
    if min(entry.shape, default=0) < 0 or entry.end - entry.begin != math.prod(entry.shape) * width:
        raise BadInput(
            f"{path}: corrupt safetensors: {name} of {entry.dtype} {list(entry.shape)} in "
            f"{entry.end - entry.begin} bytes"
        )
    return entry


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
