"""Hub ids open from the local cache in the hub's layout, without network; what is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hublike import outputs, repository, same, words
from huggingface_hub import constants

from trimtab.core.errors import BadInput, Refused
from trimtab.load import open_source

FIRST, SECOND = "1" * 40, "2" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def publish(hub: Path, name: str, commit: str, branch: str, kind: str = "llama") -> tuple[object, dict]:
    root = hub / f"models--{name.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / branch).write_text(commit)
    made = repository(root / "snapshots" / commit, kind)
    words(root / "snapshots" / commit)
    (root / "snapshots" / commit / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return made


def test_revisions_are_honoured_and_recorded(hub: Path) -> None:
    llama, batch = publish(hub, "someone/tiny", FIRST, "main")
    qwen, _ = publish(hub, "someone/tiny", SECOND, "next", kind="qwen2")
    main = open_source("someone/tiny")
    assert same(outputs(main.model, batch), outputs(llama, batch))
    assert (main.source.id, main.source.kind, main.source.revision) == ("someone/tiny", "hub", FIRST)
    assert main.source.license == "apache-2.0"
    assert main.tokenizer("w3")["input_ids"] == [6]
    for revision in ("next", SECOND):
        found = open_source("someone/tiny", revision=revision)
        assert same(outputs(found.model, batch), outputs(qwen, batch))
        assert found.source.revision == SECOND


def test_what_is_not_cached_is_named_with_the_next_command(hub: Path) -> None:
    with pytest.raises(BadInput, match=r"someone/other is neither.*HF_HUB_OFFLINE is set.*hf download someone/other"):
        open_source("someone/other")
    publish(hub, "someone/tiny", FIRST, "main")
    with pytest.raises(BadInput, match="someone/tiny@v9"):
        open_source("someone/tiny", revision="v9")


def test_half_downloads_and_pickles(hub: Path) -> None:
    publish(hub, "someone/tiny", FIRST, "main")
    folder = hub / "models--someone--tiny/snapshots" / FIRST
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"has no model\.safetensors.*hf download someone/tiny model\.safetensors"):
        open_source("someone/tiny")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(Refused, match="pickle checkpoint"):
        open_source("someone/tiny")
    (folder / "model.safetensors").write_bytes(weights[:-3])
    with pytest.raises(BadInput, match="truncated"):
        open_source("someone/tiny")
    (folder / "config.json").unlink()
    with pytest.raises(BadInput, match=r"has no config\.json"):
        open_source("someone/tiny")
