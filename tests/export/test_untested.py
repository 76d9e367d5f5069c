"""An engine that is missing or broken is named in pytest's last lines; under CI it is a failure, and so is any skip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve()
FILES = {
    "test_missing.py": "from untested import need\n\n\ndef test_a():\n    need('no_such_engine')\n",
    "test_broken.py": "from untested import need\n\nneed('broken_engine')\n\n\ndef test_b():\n    assert False\n",
    "test_whole.py": "from untested import need\n\n\ndef test_c():\n    need('json')\n",
    "broken_engine.py": "raise ImportError('its library is too old')\n",
}
NEXT = "next: pip install -e '.[dev]' (tests and files: 1)"
SAID = (
    f"export not tested: no_such_engine is not installed; {NEXT}",
    f"export not tested: broken_engine cannot be imported (its library is too old); {NEXT}",
)


def ran(folder: Path, files: dict[str, str], ci: str | None, *more: str) -> subprocess.CompletedProcess[str]:
    """pytest on ``files`` at tests/export/ of ``folder``, with the hooks of this suite."""
    place = folder / "tests" / "export"
    place.mkdir(parents=True)
    for name, text in files.items():
        (place / name).write_text(text)
    env = {name: value for name, value in os.environ.items() if name != "CI"} | ({} if ci is None else {"CI": ci})
    env["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), str(HERE.parents[2] / "src"), str(place)])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "untested", "-p", "no:cacheprovider", *more, str(folder)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_every_engine_that_is_not_there_is_named_last(tmp_path: Path) -> None:
    done = ran(tmp_path, FILES, None, "-n", "1")
    assert done.returncode == 0, done.stdout
    last = done.stdout.strip().splitlines()[-3:]
    assert sorted(last[:2]) == sorted(SAID)
    assert "1 passed, 2 skipped" in last[2]


def test_under_ci_it_is_a_failure(tmp_path: Path) -> None:
    done = ran(tmp_path, FILES, "true", "--continue-on-collection-errors")
    assert done.returncode == 1, done.stdout
    last = done.stdout.strip().splitlines()[-3:]
    assert sorted(last[:2]) == sorted(SAID)
    assert "1 failed, 1 passed, 1 error" in last[2]


def test_under_ci_no_skip_of_an_export_is_quiet(tmp_path: Path) -> None:
    files = {"test_quiet.py": "import pytest\n\n\ndef test_d():\n    pytest.importorskip('no_such_engine')\n"}
    done = ran(tmp_path, files, "true")
    assert done.returncode == 1, done.stdout
    assert "export not tested: could not import 'no_such_engine'" in done.stdout
    assert ran(tmp_path / "again", files, None).returncode == 0


def test_the_format_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import untested

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(untested, "import_module", lambda name: (_ for _ in ()).throw(OSError("no library")))
    with pytest.raises(pytest.skip.Exception, match=r"not tested: --format onnx: onnxruntime cannot be imported"):
        untested.need("onnxruntime")
