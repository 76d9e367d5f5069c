"""What ``trimtab.load`` hands out: a model with everything that belongs to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from trimtab.core.evict import CacheMethod
from trimtab.core.keep import TokenMethod
from trimtab.core.reading import Reading

if TYPE_CHECKING:
    from trimtab.anatomy import Anatomy
    from trimtab.load.manifest import Manifest

Kind = Literal["builtin", "hub", "folder", "gguf", "artifact"]


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    ``revision``: the hub's commit, or a hash of config and tensor files. ``license``: as the model card says, else
    ``unknown``. ``bytes16``: bytes of the same model saved in 16 bits, tied tensors once. ``folder``: where its files
    lie on this machine; it is never written down.
    """

    id: str
    revision: str
    license: str
    kind: Kind
    bytes16: int
    folder: Path | None = field(default=None, repr=False, compare=False)


@dataclass
class Loaded:
    """A library model, its processor and tokenizer, its source and its policies for tokens and the cache.

    ``library`` is the Hugging Face model, edited in place by compression. ``model`` is what answers: the library's
    model itself, or, with ``policies``, ``trimtab.anatomy.trimmed.Trimmed`` over it. ``policies`` are methods (knobs);
    set them as a whole. ``image_backend`` is ``pil`` where there are images. ``code``: the repository's own code ran.
    ``kernels``: what the runtime put in place of the reference, where ``lower`` was called, and ``engine`` what runs
    the decoder as a whole where it can be. ``streamed``: matrices are in the files of ``source`` still, and read as
    they are needed. ``memory``: of pictures and beginnings of prompts, where ``remember`` was called.
    ``answers``: another engine that answers in its place.
    """

    library: PreTrainedModel
    processor: Any
    tokenizer: Any
    source: Source
    image_backend: str | None = None
    policies: Sequence[TokenMethod | CacheMethod] = ()
    manifest: Manifest | None = None
    readings: Sequence[Reading] = ()
    code: bool = False
    notes: list[str] = field(default_factory=list)
    kernels: Any = None
    engine: Any = None
    streamed: bool = False
    memory: Any = None
    answers: Any = None

    @cached_property
    def anatomy(self) -> Anatomy:
        """The model block by block. Its linears become hosts when this is first asked for."""
        from trimtab import anatomy

        return anatomy.of(self.library)

    @property
    def model(self) -> Any:
        """What to call and to generate with, policies and the engine included."""
        if self.answers is not None:
            return self.answers
        policies, memory = [method.policy() for method in self.policies], self.memory
        if self.engine is None and not policies and memory is None:
            return self.library
        anatomy = self.anatomy if memory is None else memory.over(self.anatomy)
        if self.engine is not None:
            from trimtab.runtime.plan.model import Planned

            return Planned(anatomy, self.engine, policies, None if memory is None else memory.prefixes)
        from trimtab.anatomy.trimmed import Trimmed

        return Trimmed(anatomy, policies) if policies or anatomy is not self.anatomy else self.library

    def remember(self, most: int | None = None) -> None:
        """From now on a picture that was shown before is not looked at again, nor the beginning of a prompt that a plan
        has read. ``most``: bytes of either kind. It begins empty, here and wherever the runtime is put in place; after
        other changes of weights, call it again."""
        from trimtab.runtime.memory import MOST, Memory

        self.memory = Memory.of(MOST if most is None else most)

    def ask(self, question: str, images: Sequence[Any] = (), max_new_tokens: int = 64) -> str:
        """The greedy answer, the prompt made as the model was taught it; ``images`` are files or PIL images. Raises
        BadInput for a file that is no picture, or pictures where the model takes none."""
        from trimtab.evaluate.ask import ask

        return ask(self, question, images, max_new_tokens)

    def lower(self, *, release: bool = False) -> Any:
        """Put the runtime's kernels in place of the reference where they fit, and a plan in that of the decoder where
        there is one; returns the runtime's report. ``release``: the reference goes where a kernel has its own copy;
        such a model answers, and can do nothing else."""
        from trimtab.runtime.place import place

        self.kernels, self.engine = place(self.library, lambda: self.anatomy, release, self.streamed)
        self._forget()
        return self.kernels

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Within, ``model`` runs as its weights are stored, without kernels and plan: so all of its operations are
        seen by those who count them."""
        from trimtab.runtime.place import settle

        hosts = self._hosts()
        kept = [host.kernel for host in hosts], self.engine, self.kernels
        try:
            self.unlower()
            yield
        finally:
            self._forget()
            made, self.engine, self.kernels = kept
            for host, kernel in zip(hosts, made, strict=True):
                host.kernel = kernel
            if self.kernels is not None:
                settle(self.library)

    def unlower(self) -> None:
        """The inverse of ``lower`` where nothing was released: every host on its reference."""
        from trimtab.runtime.place import unsettle

        unsettle(self.library)
        self.engine, self.kernels = None, None
        self._forget()
        for host in self._hosts():
            host.kernel = None

    def _forget(self) -> None:
        if self.memory is not None:
            self.remember(self.memory.features.most)

    def _hosts(self) -> list[Any]:
        from trimtab.core.linear import Host

        return [module for module in self.library.modules() if isinstance(module, Host)]


def bytes16(model: nn.Module) -> int:
    """Bytes of all parameters and saved buffers, each once, floating ones at 2 bytes."""
    stored = {id(p): p for p in (*model.parameters(), *_saved(model))}
    return sum(p.numel() * (2 if p.is_floating_point() else p.element_size()) for p in stored.values())


def _saved(model: nn.Module) -> list[torch.Tensor]:
    saved = model.state_dict(keep_vars=True).values()
    return [value for value in saved if isinstance(value, torch.Tensor)]
