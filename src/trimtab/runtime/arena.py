"""Room for what is read once for each word: side by side in the order of use, on pages of 2 MB where there are any.

On pages of 4 KB a word of a 175 MB model meets 43,000 of them, each a look into the page tables at which the hardware's
reading ahead ends.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from trimtab.core.native import library
from trimtab.runtime.plan.layout import Laid

PAGE = 2 << 20
LINE = 64
PART = 64 << 20
"""Bytes that are asked of the system at once; memory that is not written to takes no room."""


class Arena:
    """``place`` copies a matrix to where the one before ended."""

    def __init__(self) -> None:
        self.part, self.at = torch.empty(0, dtype=torch.uint8), 0

    def place(self, one: Laid) -> Laid:
        """The same matrix here. Raises MemoryError where there is no room."""
        codes = self._copy(one.codes)
        scale, zero, values = (None if it is None else self._copy(it) for it in (one.scale, one.zero, one.values))
        return replace(one, codes=codes, scale=scale, zero=zero, values=values)

    def _copy(self, value: Tensor) -> Tensor:
        room = -(-value.nbytes // LINE) * LINE
        if self.at + room > len(self.part):
            self._more(room)
        made = self.part[self.at : self.at + value.nbytes].view(value.dtype).view(value.shape)
        self.at += room
        return made.copy_(value)

    def _more(self, room: int) -> None:
        native, size = library(), -(-max(room, PART) // PAGE) * PAGE
        try:
            whole = torch.empty(size + PAGE, dtype=torch.uint8)
        except RuntimeError as error:  # how torch says that there is no memory
            raise MemoryError(f"{size} bytes of weights as the compiled library reads them") from error
        begin = -whole.data_ptr() % PAGE
        self.part, self.at = whole[begin : begin + size], 0
        if native is not None:
            native.trimtab_large_pages(self.part.data_ptr(), size)
