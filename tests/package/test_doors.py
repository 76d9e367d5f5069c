"""What a newcomer touches first: imports, the command line, the wheel, the notebook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def trimtab(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trimtab.cli", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("code", ["import trimtab", "import trimtab; dir(trimtab)", "import trimtab.cli.app"])
def test_importing_needs_no_torch(code: str) -> None:
    heavy = ("torch", "transformers", "numpy", "pydantic", "jaxtyping", "plotly", "jinja2")
    script = f"import sys; {code}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_needs_no_torch() -> None:
    script = (
        "import sys; sys.argv = ['trimtab', '--help']\n"
        "from trimtab.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(str('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "False"
    verbs = "init plan run resume eval bench compare report export serve generate list doctor cache"
    for verb in verbs.split():
        assert verb in done.stdout


LEAVING = """
import errno, sys
import typer
from trimtab.cli import app as door
from trimtab.core.errors import Anomaly, BadInput

@door.app.command()
def leave(how: str) -> None:
    if how == "interrupted":
        raise KeyboardInterrupt
    if how in ("3", "4", "5"):
        raise typer.Exit(int(how))
    kinds = {"bad": BadInput("no"), "anomaly": Anomaly("no"), "broken": RuntimeError("no"),
             "full": OSError(errno.ENOSPC, "no")}
    if how in kinds:
        raise kinds[how]

sys.argv = ["trimtab", *sys.argv[1:]]
door.main()
"""


@pytest.mark.parametrize(
    ("how", "status"),
    [("well", 0), ("3", 3), ("4", 4), ("5", 5), ("interrupted", 130), ("bad", 2), ("anomaly", 3), ("broken", 1),
     ("full", 2)],
)  # fmt: skip
def test_what_a_command_ends_with_is_the_exit_status(how: str, status: int, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVING, "leave", how], cwd=tmp_path, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == status, done.stderr


@pytest.mark.parametrize("what", ["methods", "models", "data", "recipes"])
def test_lists(what: str) -> None:
    done = trimtab("list", what, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])[what]
    assert all(row["name"] for row in rows)
    expected = {"methods": "gptq", "models": "builtin:easyvqa-llava", "data": "easyvqa-grid", "recipes": "quickstart"}
    assert expected[what] in {row["name"] for row in rows}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["list", "metods"], "methods"),
        (["run", "quickstrat"], "quickstart"),
        (["resume", "nowhere"], "holds no run"),
        (["run", "quickstart", "--set", "seed"], "key=value"),
        (["fly"], "No such command"),
        (["report", "nowhere"], "result.json"),
        (["cache", "--remove", "nothing"], "nothing"),
        (["serve", "x", "--host", "0.0.0.0"], "token"),
    ],
)
def test_bad_input_is_status_2_with_a_reason(arguments: list[str], word: str, tmp_path: Path) -> None:
    done = trimtab(*arguments, "--json", cwd=tmp_path) if arguments[0] not in ("fly", "serve") else trimtab(
        *arguments, cwd=tmp_path
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_doctor_says_what_there_is() -> None:
    """In a process of its own, which measures once, and briefly: beside other tests it would never find it steady."""
    hurried = "from trimtab.measure import limits; limits.TRIES, limits.BRIEF = 1, 1e-3; "
    command = [sys.executable, "-c", f"{hurried}from trimtab.cli.app import main; main()", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["versions"]["torch"]
    assert facts["cores"] >= 1
    assert facts["ceilings"]["products"]["bfloat16"]["stream"] > 0


def test_doctor_writes_units() -> None:
    from trimtab.cli.look import SHOWN

    assert SHOWN["memory"](25_276_514_304) == "25.3 GB"
    assert (
        SHOWN["bandwidth"]({1 << 18: 107.9e9, 1 << 30: 19.6e9})
        == "reading 256 KiB: 107.9 GB/s\nreading 1024 MiB: 19.6 GB/s"
    )
    assert SHOWN["arithmetic"]({"float32": 2e11, "int8": 4.4e11}) == "float32: 200 GFLOP/s\nint8: 440 GOP/s"


def test_plan_names_weights_and_shape_problems() -> None:
    good = json.loads(trimtab("plan", "quickstart", "--json").stdout.splitlines()[-1])
    assert 0.25 < good["ratio"] < 0.31
    assert good["feasible"]
    bad = trimtab("plan", "quickstart", "--set", "steps.0.gptq.group_size=128", "--json")
    assert bad.returncode == 5
    assert not json.loads(bad.stdout.splitlines()[-1])["feasible"]
    assert "nearest" in bad.stdout


def test_the_wheel_works_in_an_empty_environment(tmp_path: Path) -> None:
    """Built, installed where the tree is not, and run; what it depends on is borrowed from this environment."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("trimtab-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([python, "-m", "pip", "install", "--no-deps", "--quiet", str(wheel)], check=True)
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    import torch

    borrowed = Path(torch.__file__).parents[1]
    (Path(where.stdout.strip()) / "borrowed.pth").write_text(f"{borrowed}\n")
    settings = ["evaluate.limit=8", "evaluate.after_step=0", "evaluate.robust.limit=0", "also=[]", "measure.repeats=3",
                "evaluate.max_new_tokens=3", "calibrate.num_samples=8", "measure.batch_size=2",
                "measure.efficiency=false"]  # fmt: skip
    command = [str(python), "-I", "-m", "trimtab.cli", "run", "quickstart", "--out", "out", "--json"]
    command += [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    result = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == result["exit_status"], done.stderr
    assert result["artifact"]["gate"]["passed"]
    assert (tmp_path / "out" / "report.html").is_file()
    inside = subprocess.run(
        [python, "-I", "-c", "import trimtab; print(trimtab.__file__)"], capture_output=True, text=True, check=True
    )
    assert str(tmp_path) in inside.stdout


def test_the_first_hour_runs(tmp_path: Path) -> None:
    import nbclient
    import nbformat

    notebook = nbformat.read(ROOT / "docs" / "first-hour.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    texts = [
        str(out.get("data", {}).get("text/plain", "")) for cell in notebook.cells for out in cell.get("outputs", [])
    ]
    assert any("LlavaForConditionalGeneration" in text for text in texts)
    assert any("Planned" in text for text in texts)
