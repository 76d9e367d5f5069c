"""Small models under a real server on a free loopback port, and a gate by which a test holds its steps."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import torch
from openai import OpenAI
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from trimtab.anatomy import tiny
from trimtab.load.loaded import Loaded, Source
from trimtab.serve.app import House, Settings
from trimtab.serve.limits import Limits
from trimtab.serve.names import Entry, Kind
from trimtab.serve.run import bound, running, url_of


def words(count: int = 96) -> PreTrainedTokenizerFast:
    """As many whole words as the tiny models have: w3, w4, ... behind the special ones."""
    every = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(3, count))]
    bare = Tokenizer(models.WordLevel({word: number for number, word in enumerate(every)}, unk_token="w3"))
    bare.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def talking(name: str = "llama", policies: Sequence[Any] = (), dtype: torch.dtype = torch.float32) -> Loaded:
    """The tiny model of that name with words of its own."""
    model, _ = tiny.make(name)
    model.to(dtype).generation_config.eos_token_id = None  # an answer is as long as it was asked for
    spoken = words()
    made = Loaded(model, spoken, spoken, Source("tiny", f"sha256:{name}", "mit", "folder", 1000))
    made.policies = policies
    return made


def entry(loaded: Loaded, id: str = "tiny", kind: Kind = "original") -> Entry:
    return Entry(id, kind, loaded, 1)


@dataclass
class Served:
    """``client``: plain HTTP; ``openai``: theirs."""

    house: House
    url: str
    client: httpx2.Client

    @property
    def openai(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.house.settings.token or "none", max_retries=0)

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def said(self, ids: Sequence[int], **more: Any) -> list[int]:
        """The words of a completion, greedily."""
        found = self.post("/v1/completions", prompt=list(ids), temperature=0, logprobs=0, **more)
        return spelled(self, found["choices"][0]["logprobs"]["tokens"])


def spelled(served: Served, tokens: Sequence[str]) -> list[int]:
    """The ids of words, each of which is one token."""
    tokenizer = next(iter(served.house.entries.values())).loaded.tokenizer
    return list(tokenizer.convert_tokens_to_ids(tokens))


@contextmanager
def served(*entries: Entry, limits: Limits | None = None, **settings: Any) -> Iterator[Served]:
    house = House({one.id: one for one in entries}, Settings(limits or Limits(), **settings))
    listening = bound("127.0.0.1", 0)
    url = url_of(listening)
    headers = {} if settings.get("token") is None else {"Authorization": f"Bearer {settings['token']}"}
    with running(house, listening), httpx2.Client(base_url=url, headers=headers, timeout=60) as client:
        yield Served(house, url, client)


class Gate:
    """Rows of a lane that read and step when the test lets them; ``sizes`` of the steps that were taken."""

    def __init__(self, served: Served, id: str) -> None:
        self.lane = served.house.scheduler.lanes[id]
        self.rows, self.lane.rows = self.lane.rows, self  # type: ignore[assignment]
        self.reading, self.stepping = threading.Event(), threading.Event()
        self.sizes, self.how = list[int](), self.rows.how

    def open(self) -> None:
        self.reading.set()
        self.stepping.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rows, name)

    def begin(self, batch: Any) -> Any:
        assert self.reading.wait(60)
        return self.rows.begin(batch)

    def step(self, ids: Sequence[int]) -> Tensor:
        assert self.stepping.wait(60)
        self.sizes.append(len(ids))
        return self.rows.step(ids)


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Waits; a test that fails waits this long."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never became so"
        time.sleep(0.005)


def data_url(image: Image.Image, form: str = "PNG") -> str:
    out = io.BytesIO()
    image.save(out, form)
    return f"data:image/{form.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"


def shown(url: str, text: str = "what shape is in the image?") -> list[dict[str, Any]]:
    """A conversation about one picture."""
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}},
                                         {"type": "text", "text": text}]}]  # fmt: skip


@torch.no_grad()
def generated(loaded: Loaded, ids: Sequence[int], count: int) -> list[int]:
    """What ``generate`` says behind these tokens, greedily."""
    given = torch.tensor([list(ids)])
    made = loaded.model.generate(
        input_ids=given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=count, pad_token_id=0
    )
    return made[0, len(ids) :].tolist()
