"""codecarbon, if it is asked, has no network and no disk, whatever a configuration file asks of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trimtab.core.errors import Anomaly, BadInput
from trimtab.measure import carbon
from trimtab.measure.carbon import Carbon

HOSTILE = """[codecarbon]
save_to_file = true
save_to_api = true
output_methods = csv,api,prometheus
emissions_endpoint = http://127.0.0.1:9/emissions
electricitymaps_api_token = secret
api_key = secret
cloud_provider = aws
cloud_region = us-east-1
allow_multiple_runs = false
log_level = debug
pue = 100
output_file = emissions.csv
"""
SCRIPT = """
import socket, sys

import urllib3  # which binds a port of its own at import, and closes it, to see whether there is IPv6

opened = []  # codecarbon keeps what is raised to itself

def refuse(*args, **more):
    opened.append(args)
    raise OSError("no network here")

class Refused(socket.socket):
    def __init__(self, *args, **more):
        refuse()

socket.socket = Refused
socket.create_connection = refuse
socket.getaddrinfo = refuse

from trimtab.measure.carbon import Carbon
from trimtab.measure.energy import energy
from trimtab.measure.power import cpu_seconds

by = Carbon(tdp=float(sys.argv[1]))
before = cpu_seconds()
found = energy(lambda: sum(range(20_000)), by, seconds=0.3)
print(by.joules, cpu_seconds() - before, found.how, found.source, len(opened), sep="|")
"""


def test_it_opens_no_socket_writes_no_file_and_says_nothing(tmp_path: Path) -> None:
    """In a process of its own, at home in a folder with a configuration that asks for everything."""
    work, home, temporary = (tmp_path / name for name in ("work", "home", "tmp"))
    for one in (work, home, temporary):
        one.mkdir()
    for one in (work, home):
        (one / ".codecarbon.config").write_text(HOSTILE)
    env = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary), "CODECARBON_SAVE_TO_API": "true"}
    env["PYTHONPATH"] = os.pathsep.join(str(Path(one).absolute()) for one in sys.path if one)
    done = subprocess.run([sys.executable, "-c", SCRIPT, "100"], cwd=work, env=env, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    joules, busy, how, source, opened = done.stdout.strip().split("|")
    assert opened == "0"
    assert how == "estimated"
    assert source.startswith("modelled: codecarbon 3.3")
    assert "offline" in source
    assert "TDP 100 W" in source
    assert 0 < float(joules) < 100 * float(busy) + 60 * 60  # the CPU's share, and some watts of memory; no pue of 100
    assert [one.name for one in work.iterdir()] == [one.name for one in home.iterdir()] == [".codecarbon.config"]
    assert list(temporary.iterdir()) == []


def test_only_the_offline_tracker_is_named() -> None:
    source = Path(carbon.__file__).read_text(encoding="utf-8")
    assert "import OfflineEmissionsTracker" in source
    assert source.count("EmissionsTracker") == source.count("OfflineEmissionsTracker")


def test_without_it_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carbon, "installed", lambda: "")
    with pytest.raises(BadInput, match=r'pip install "trimtab\[energy\]"'):
        Carbon().__enter__()


class Tracker:
    """What codecarbon does at its worst: it keeps an error to itself and has no figure."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


def test_a_tracker_without_a_figure_is_an_anomaly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carbon, "installed", lambda: "3.3.2")
    monkeypatch.setattr(carbon, "_tracker", lambda *_: Tracker())
    with pytest.raises(Anomaly, match="codecarbon ended without a figure"), Carbon():
        pass
    with pytest.raises(KeyError), Carbon():
        raise KeyError("what went wrong inside is told first")


def test_kilowatt_hours_become_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    class Done(Tracker):
        class final_emissions_data:
            energy_consumed = 1e-6

    monkeypatch.setattr(carbon, "installed", lambda: "3.3.2")
    monkeypatch.setattr(carbon, "_tracker", lambda *_: Done())
    with Carbon() as found:
        pass
    assert found.joules == pytest.approx(3.6)
