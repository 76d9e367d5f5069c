"""Everything written outside run folders is in one place, whole, and can be listed and removed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from trimtab.core import tensorfile
from trimtab.core.errors import BadInput
from trimtab.load import cache


def test_the_place_follows_the_platform() -> None:
    home = Path.home()
    assert cache.root({"TRIMTAB_CACHE": "/x/y"}, "win32") == Path("/x/y")
    assert cache.root({}, "linux") == home / ".cache/trimtab"
    assert cache.root({"XDG_CACHE_HOME": "/c"}, "linux") == Path("/c/trimtab")
    assert cache.root({}, "darwin") == home / "Library/Caches/trimtab"
    assert cache.root({"LOCALAPPDATA": "/l"}, "win32") == Path("/l/trimtab/Cache")


def test_entries_are_listed_and_removed() -> None:
    assert cache.entries() == []
    assert cache.remove() == []
    (cache.place("gguf", "abc")).mkdir()
    (cache.place("gguf", "abc") / "inner").mkdir()
    (cache.place("gguf", "abc") / "inner/a").write_bytes(bytes(700))
    (cache.place("baseline", "k.jsonl")).write_bytes(bytes(30))
    (cache.place("gguf", ".def.part")).mkdir()
    assert [(e.name, e.bytes) for e in cache.entries()] == [
        ("baseline/k.jsonl", 30), ("gguf/.def.part", 0), ("gguf/abc", 700)
    ]  # fmt: skip
    with pytest.raises(BadInput, match="nearest: 'gguf/abc'"):
        cache.remove("gguf/abd")
    assert [e.name for e in cache.remove("gguf/abc")] == ["gguf/abc"]
    assert not cache.place("gguf", "abc").exists()
    assert len(cache.remove()) == 2
    assert cache.entries() == []


def test_what_is_not_trimtabs_is_left_alone() -> None:
    mine = cache.root() / "photos" / "cat.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(bytes(9))
    cache.place("gguf", "abc").mkdir()
    assert [entry.name for entry in cache.remove()] == ["gguf/abc"]
    assert mine.exists()
    with pytest.raises(ValueError, match="'photos'; accepted: gguf, baseline"):
        cache.place("photos", "dog.png")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is a thing of Linux")
def test_a_full_disk_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        tensorfile.save_tensors(Path("/dev/full"), {"x": torch.ones(100_000)})
    assert caught.value.errno == errno.ENOSPC


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with cache.new_folder(target) as fresh:
        (fresh / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"

    def broken() -> None:
        with cache.new_folder(target) as fresh:
            (fresh / "a").write_text("2")
            raise KeyError("x")

    with pytest.raises(KeyError):
        broken()
    assert (target / "a").read_text() == "1"
    (tmp_path / ".out.part").mkdir()  # left by a process that was killed
    (tmp_path / ".out.part/stale").touch()
    with cache.new_folder(target) as fresh:
        assert list(fresh.iterdir()) == []
        (fresh / "b").write_text("3")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_was_there_comes_back_where_the_last_step_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out"
    with cache.new_folder(target) as fresh:
        (fresh / "a").write_text("1")
    rename = os.replace

    def refuse(source: Path, to: Path) -> None:
        if Path(source).name == ".out.part":
            raise OSError("the last step fails")
        rename(source, to)

    def write() -> None:
        with cache.new_folder(target) as fresh:
            (fresh / "a").write_text("2")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="last step"):
        write()
    assert (target / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
