"""How many threads small steps are worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for what is inside, the number there was before behind it.

    For steps too short to be shared: threads that wait for one another take longer than the work, and beside another
    busy process a thousand times longer. It also makes the result independent of the number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
