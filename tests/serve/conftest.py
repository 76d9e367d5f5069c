"""The built-in model and a trimmed artifact of it, opened once; a server of a tiny one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Served, entry, served, talking

from trimtab.core.fit import Site
from trimtab.data.sample import Sample
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.load import artifact, open_source
from trimtab.load.loaded import Loaded
from trimtab.quantize import RTN
from trimtab.tokens import DivPrune

BUILTIN = "builtin:easyvqa-llava"


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIMTAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def builtin() -> Loaded:
    """As its users open it, on the runtime's kernels."""
    return open_source(BUILTIN, lowered=True)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves: an artifact of 4 bits and half of the image tokens, measured on kernels, and its page."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    loaded = open_source(BUILTIN)
    for name, host in loaded.anatomy.linears():
        if "language" in name:
            host.w = RTN(bits=4, group_size=64)(host.w, Site(name, host.w.dense))
    loaded.policies = (DivPrune(keep=0.5),)
    loaded.lower()
    said: dict[str, Any] = {"recipe": {"steps": [{"rtn": {"bits": 4}}, {"divprune": {"keep": 0.5}}]}}
    artifact.write(folder / "artifact", loaded, said)
    policy = "default-src &#39;none&#39;; style-src 'sha256-x'"
    page = f'<!doctype html>\n<meta http-equiv="Content-Security-Policy" content="{policy}">\n<p>report</p>\n'
    (folder / "report.html").write_text(page, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def trimmed(run_folder: Path) -> Loaded:
    return open_source(run_folder / "artifact")


@pytest.fixture(scope="session")
def asked() -> list[Sample]:
    return samples(Task(dataset="easyvqa"))[5:11]


@pytest.fixture(scope="module")
def tiny_server() -> Iterator[Served]:
    with served(entry(talking())) as made:
        yield made


@pytest.fixture(scope="module")
def seeing(builtin: Loaded, trimmed: Loaded) -> Iterator[Served]:
    """The trimmed model and the original."""
    with served(entry(trimmed, "small", "trimmed"), entry(builtin, BUILTIN)) as made:
        yield made
