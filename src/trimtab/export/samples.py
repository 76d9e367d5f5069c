"""What our model answers at every position of some rows, for another engine to be held against.

Each row stands alone, without padding: engines differ in what they do there. Taken are the rows of the artifact's own
gate samples, or, where a batch cannot be cut by its rows or there are none, fixed sentences with noise pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from trimtab.core.errors import Anomaly, Refused
from trimtab.core.weight import Dense
from trimtab.export.forms import rounded
from trimtab.load import synthetic, tensors
from trimtab.load.artifact import hosts
from trimtab.load.gate_samples import conditions
from trimtab.load.loaded import Loaded
from trimtab.load.manifest import SAMPLES

Row = dict[str, Tensor]
ROWS = 16
"""Rows that are made or taken at most."""
WORDS = (("decoder_input_ids", "decoder_attention_mask"), ("input_ids", "attention_mask"))
"""Ids and mask of what is answered, first found."""


@torch.no_grad()
def record(loaded: Loaded, path: Path) -> None:
    """Write ``path``, a safetensors file. For row i: ``i.input_ids`` and ``i.attention_mask`` (t); every other tensor
    of the processor as it is for this row alone (``i.pixel_values`` (1, c, h, w)), in float32; ``i.greedy`` (t) the
    most likely next token at each position, ``i.nll`` (t - 1) the loss of each token that came, float32, and
    ``i.counted`` (t) 1 where what comes next is a word: the placeholders of a picture, most of many rows, are never
    answered and would hide the words. For a model without a vocabulary ``i.output`` (places, width), its last hidden
    state.

    The model answers in float32, its matrices dense as they are served, and stays so. Raises Anomaly where an answer
    is not finite, Refused for a model that answers with neither.
    """
    stored: Row = {}
    widen(loaded)
    model = loaded.library.eval()
    for number, row in enumerate(rows(loaded)):
        answer = _answer(model, row)
        if "greedy" in answer:
            answer["counted"] = _counted(loaded, row)
        for name, value in (row | answer).items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise Anomaly(f"export: sample {number}: {name} is not finite")
            bare = name in {part for pair in WORDS for part in pair} and value.ndim == 2
            stored[f"{number}.{name}"] = value[0] if bare else value
    tensors.save(path, stored)


def widen(loaded: Loaded) -> None:
    """The model in float32: every matrix dense, rounded to its own dtype as it is served, one for all that share it.
    Codes whose input is rounded stay codes: their product is served in integers, and scaled in float32."""
    found = hosts(loaded.anatomy)
    before = [host.w for _, host in found]  # held, so that no address is given twice
    rounding = {id(host.w) for host in rounded(loaded).values()}
    made = {id(w): w for w in before if id(w) not in rounding}
    made = {key: Dense(w.dense().detach().float()) for key, w in made.items()}
    for (_, host), w in zip(found, before, strict=True):
        host.w = made.get(id(w), w)
    loaded.library.float()


def rows(loaded: Loaded) -> list[Row]:
    """Up to ``ROWS`` batches of one row each, floats in float32."""
    found = list(_own(loaded))[:ROWS] or list(_made(loaded))
    return [{key: value.float() if value.is_floating_point() else value for key, value in row.items()} for row in found]


def _own(loaded: Loaded) -> Iterator[Row]:
    """The rows of the artifact's gate samples; none where they cannot be told apart."""
    path = None if loaded.source.folder is None else loaded.source.folder / SAMPLES
    if path is None or not path.is_file():
        return
    stored = tensors.load(path)
    for number in range(conditions(path).count):
        start = f"{number}.in."
        batch = {name.removeprefix(start): value for name, value in stored.items() if name.startswith(start)}
        if not _by_rows(loaded, batch):
            return
        for at in range(len(next(iter(batch.values())))):
            yield _unpadded({name: value[at : at + 1] for name, value in batch.items()})


def _by_rows(loaded: Loaded, batch: Row) -> bool:
    """Whether row i of every tensor belongs to row i of the ids: as many rows, as many placeholders in each."""
    ids = batch.get("input_ids")
    if len({len(value) for value in batch.values()}) != 1:
        return False
    token = getattr(loaded.library.config, "image_token_id", None)
    if ids is None or token is None:
        return True
    return len({int(count) for count in (ids == token).sum(1)}) == 1


def _unpadded(row: Row) -> Row:
    """Without the places that the mask hides."""
    for words, mask in WORDS:
        if words in row and mask in row:
            shape, here = row[words].shape, row[mask][0].bool()
            row = {key: value[:, here] if value.shape == shape else value for key, value in row.items()}
    return row


def _made(loaded: Loaded) -> Iterator[Row]:
    for number in range(ROWS):
        sentence = synthetic.SENTENCES[number % len(synthetic.SENTENCES)]
        text = " ".join([sentence] * (1 + number // len(synthetic.SENTENCES) % 2))
        yield synthetic.batch(loaded.processor, [text], seed=number)


def _counted(loaded: Loaded, row: Row) -> Tensor:
    ids = next(row[words] for words, _ in WORDS if words in row)[0]
    token = getattr(loaded.library.config, "image_token_id", None)
    counted = torch.ones(len(ids), dtype=torch.uint8)
    if token is not None:
        counted[:-1] = ids[1:] != token
    return counted


def _answer(model: torch.nn.Module, row: Row) -> Row:
    found = model(**row)
    ids = next((row[words] for words, _ in WORDS if words in row), None)
    if getattr(found, "logits", None) is not None and ids is not None:
        logits = found.logits[0].float()
        nll = F.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")
        return {"greedy": logits.argmax(-1), "nll": nll}
    if getattr(found, "last_hidden_state", None) is not None:
        return {"output": found.last_hidden_state[0]}
    if getattr(found, "image_embeds", None) is not None:
        return {"output": torch.cat([found.text_embeds, found.image_embeds])}
    raise Refused(f"export: {type(model).__name__} answers with {', '.join(found)}; accepted: logits, a hidden state, "
                  "or embeddings of texts and images")  # fmt: skip
