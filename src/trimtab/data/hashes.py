"""Hashes that show which samples were used to whoever holds the run's key, and nothing to anybody else."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable

from trimtab.data.sample import Sample


def new_key() -> bytes:
    """256 random bits, made once per run and kept in its private state."""
    return secrets.token_bytes(32)


def sample_hash(key: bytes, sample: Sample) -> str:
    """HMAC-SHA256 of the question, the answer and the picture's size and pixels; fields are told apart by length."""
    mac = hmac.new(key, digestmod=hashlib.sha256)
    parts = [sample.question.encode(), sample.answer.encode()]
    if sample.open is not None:
        with sample.open() as image:
            parts += [f"{image.mode} {image.size}".encode(), image.tobytes()]
    for part in parts:
        mac.update(len(part).to_bytes(8, "big") + part)
    return mac.hexdigest()


def digest_of(samples: Iterable[Sample]) -> str:
    """SHA-256 of samples in their order: ids, questions, answers and pixels, each picture read once."""
    total, pictures = hashlib.sha256(), dict[str, str]()
    for one in samples:
        name = one.picture or one.id
        if one.open is not None and name not in pictures:
            with one.open() as image:
                pictures[name] = hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).hexdigest()
        said = [one.id, one.question, one.answer, *one.answers, pictures.get(name, "")]
        for part in (text.encode() for text in said):
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()


def sample_hashes(key: bytes, samples: Iterable[Sample]) -> list[str]:
    """The hash of each sample, in order."""
    return [sample_hash(key, sample) for sample in samples]
