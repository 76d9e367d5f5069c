"""Writing safetensors files so that a full disk looks like one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

NUMBER = re.compile(r"os error (\d+)")


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """``tensors`` as a safetensors file with ``about`` in its header. Raises OSError, with its number, where the system
    cannot write it; the library's own error does not say so in a form that a program can read."""
    try:
        save_file(dict(tensors), path, None if about is None else dict(about))
    except SafetensorError as error:
        found = NUMBER.search(str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
