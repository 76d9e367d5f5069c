"""Who is next: one thread that reads prompts and takes steps for all models, between which requests come and go.

Each round reads the prompt of at most one request that waits, then takes one step of every model that has rows running
(``rows.py``): new requests join those that run at the next word, a long queue keeps nobody from speaking, and what has
ended or was given up leaves between two words. Whatever fails is told to those whom it concerns, and the thread goes
on. All models share it, since all products take all cores: two that run at once on two cores are many times slower than
one after the other.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from trimtab.core.errors import TrimtabError
from trimtab.serve.answer import Answer, Piece
from trimtab.serve.errors import ApiError, of
from trimtab.serve.heap import Heap
from trimtab.serve.rows import Rows, read

LOG = logging.getLogger("trimtab.serve")


@dataclass(eq=False)
class Job:
    """What a request wants of the model ``lane``: ``answers``, or the value of ``call`` (an embedding). ``put`` takes
    each Piece, the value, or the ApiError with which it ends, in the scheduler's thread. ``left``: nobody waits for
    it."""

    lane: str
    put: Callable[[Any], None]
    answers: Sequence[Answer] = ()
    call: Callable[[], Any] | None = None
    left: bool = False

    def leave(self) -> None:
        self.left = True


@dataclass
class Lane:
    """A model's rows, and whose they are."""

    rows: Rows
    running: list[tuple[Job, Answer, int]] = field(default_factory=list)

    def drop(self, gone: Callable[[Job, Answer], bool]) -> None:
        kept = [i for i, (job, answer, _) in enumerate(self.running) if not gone(job, answer)]
        if len(kept) < len(self.running):
            self.running = [self.running[i] for i in kept]
            self.rows.keep(kept)

    def give_up(self, error: ApiError) -> None:
        """None of its rows can go on; new ones begin anew."""
        for job, _, _ in self.running:
            _fail(job, error)
        self.running.clear()
        self.rows.keep([])


class Scheduler:
    """``lanes`` by name; ``most`` rows run at once; ``heap`` is tidied where there is nothing to do. Started and
    stopped by ``with``."""

    def __init__(self, lanes: Mapping[str, Rows], most: int, heap: Heap) -> None:
        self.heap = heap
        self.lanes = {name: Lane(rows) for name, rows in lanes.items()}
        self.most = most
        self._waiting: deque[tuple[Job, Answer | None]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="trimtab-serve", daemon=True)

    def __enter__(self) -> Scheduler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """What still runs is given up."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def submit(self, job: Job) -> None:
        """Its answers are begun in the order of submission."""
        with self._changed:
            self._waiting.extend((job, answer) for answer in job.answers or (None,))
            self._changed.notify()

    def used(self) -> None:
        """A request has ended, maybe one that never came here: what its body and answer took is free."""
        with self._changed:
            self.heap.use()
            self._changed.notify()

    @property
    def running(self) -> int:
        return sum(len(lane.running) for lane in self.lanes.values())

    def _work(self) -> None:
        with torch.inference_mode():
            while self._wait():
                self._sweep()
                self._begin()
                self._each(self._step)

    def _each(self, do: Callable[[Lane], None]) -> None:
        """With every model; one that fails keeps no other from it."""
        for lane in self.lanes.values():
            try:
                do(lane)
            except Exception as error:  # told to all whose answers it made
                lane.give_up(logged(error))

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _wait(self) -> bool:
        """Until there is something to do; False at the end."""
        while True:
            with self._changed:
                if self._stopping or self._waiting or self.running:
                    return not self._stopping
                self._changed.wait(self.heap.due)
            if not (self._waiting or self.running):  # outside, as it takes milliseconds: who asks waits for no lock
                self.heap.tidy()

    def _sweep(self) -> None:
        with self._changed:
            self._waiting = deque(one for one in self._waiting if not one[0].left)
        self._each(lambda lane: lane.drop(lambda job, _: job.left))

    def _begin(self) -> None:
        """Read one prompt, or make one embedding."""
        with self._changed:
            if not self._waiting or self.running >= self.most:
                return
            job, answer = self._waiting.popleft()
        try:
            if answer is None:
                assert job.call is not None
                job.put(job.call())
            else:
                self._first(self.lanes[job.lane], job, answer)
        except Exception as error:  # told to the one who asked; the others go on
            _fail(job, logged(error))

    def _first(self, lane: Lane, job: Job, answer: Answer) -> None:
        begun = None
        if answer.wish.echo:
            if answer.wish.top is not None:
                begun = read(lane.rows, answer.prompt.batch, answer.see)
            job.put(answer.echo())
        if answer.wish.most == 0:
            return job.put(Piece(answer.index, finish="length"))
        begun = begun or lane.rows.begin(answer.prompt.batch)
        if job.left:
            return
        answer.gone = begun.gone
        piece = answer.next(begun.logits)
        if piece.finish is None:
            lane.rows.join(begun.slots)
            lane.running.append((job, answer, answer.ids[-1]))
        job.put(piece)

    def _step(self, lane: Lane) -> None:
        """The next word of every row of a model."""
        if not lane.running:
            return
        logits = lane.rows.step([token for _, _, token in lane.running])
        ended = set()
        for at, (job, answer, _) in enumerate(lane.running):
            if job.left:
                continue
            try:
                piece = answer.next(logits[at])
            except Exception as error:  # of this row alone
                _fail(job, logged(error))
                continue
            lane.running[at] = job, answer, answer.ids[-1]
            if piece.finish is not None:
                ended.add(id(answer))
            job.put(piece)
        lane.drop(lambda job, answer: job.left or id(answer) in ended)


def _fail(job: Job, error: ApiError) -> None:
    if not job.left:
        job.leave()
        job.put(error)


def logged(error: Exception) -> ApiError:
    """What the client is told; of an error of ours the log has where it was, once, without what was asked."""
    if isinstance(error, ApiError):
        return error
    told = of(error)
    if told.status == 500 and not isinstance(error, TrimtabError):
        trace, at = error.__traceback__, "?"
        while trace is not None:
            at = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
            trace = trace.tb_next
        LOG.error("internal error: %s at %s", type(error).__name__, at)
    return told
