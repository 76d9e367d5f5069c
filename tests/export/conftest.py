"""A language model and a vision-language model with a decoder of 4 bits, made once."""

from __future__ import annotations

from pathlib import Path

import everyform
import pytest
import subjects


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    subjects.language(folder / "language")
    subjects.seeing(folder / "seeing")
    return folder


@pytest.fixture(scope="session")
def artifacts(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders ``language`` and ``seeing``."""
    folder = tmp_path_factory.mktemp("artifacts")
    for name in ("language", "seeing"):
        subjects.trimmed(sources / name, folder / name, subjects.four)
    return folder


@pytest.fixture(scope="session")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with every form of weight that a graph can hold."""
    return everyform.write(tmp_path_factory.mktemp("rich"))


@pytest.fixture(scope="session")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA's artifact with every grid in tower, projector, decoder, head and word table."""
    return everyform.write_seeing(tmp_path_factory.mktemp("watching"))
