"""Energy as codecarbon estimates it, where no counter can be read: its offline tracker, never the online one.

codecarbon (Courty et al., https://github.com/mlco2/codecarbon) takes a CPU's design power from its table, times this
process's share of the machine's CPU time (``tracking_mode="process"``), adds a model of the memory's power and what
NVIDIA's GPUs say by NVML that they use. All of it is called estimated here.

It is kept from the network and from the disk: no output method, no endpoint, no token, no lock, whatever a
``.codecarbon.config`` or the environment ask for, since what is said to its constructor goes before them; and what it
logs is not shown. (Importing it imports urllib3, which binds and closes a port of this machine to see whether there is
IPv6; nothing is sent.) Its country only chooses the grid for the emissions, which are not taken.
"""

from __future__ import annotations

import logging
import tempfile
from importlib import metadata
from types import TracebackType
from typing import Any

from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.reading import How

SHORTEST = 0.05  # seconds; codecarbon leaves out what was shorter


def installed() -> str:
    """codecarbon's version, or "" where it is not there."""
    try:
        return metadata.version("codecarbon")
    except metadata.PackageNotFoundError:
        return ""


class Carbon:
    """``with Carbon() as meter: ...`` then ``meter.joules``. ``tdp``: the CPU's design power in watts, in place of its
    table's; ``because``: why no counter is read, for the source."""

    how: How = "estimated"

    def __init__(self, tdp: float | None = None, because: str = "", country: str = "USA") -> None:
        self.tdp, self.country = tdp, country
        self.joules = 0.0
        given = "" if tdp is None else f", TDP {tdp:g} W"
        self.source = f"modelled: codecarbon {installed()}, offline, this process{given}" + (
            because and f" ({because})"
        )
        self._tracker: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Carbon:
        """Raises BadInput where codecarbon is not installed."""
        if not installed():
            raise BadInput('energy: codecarbon is not installed; pip install "trimtab[energy]"')
        self.joules = 0.0
        self._folder = tempfile.TemporaryDirectory()  # where it would write if anything did
        with _Silent():
            self._tracker = _tracker(self.country, self.tdp, self._folder.name)
            self._tracker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises Anomaly where codecarbon, which keeps its errors to itself, has no figure."""
        with _Silent():
            self._tracker.stop()
        if self._folder is not None:
            self._folder.cleanup()
        found = getattr(self._tracker, "final_emissions_data", None)
        if found is None and kind is None:
            raise Anomaly("energy: codecarbon ended without a figure")
        self.joules = float(found.energy_consumed) * 3.6e6 if found is not None else 0.0


def _tracker(country: str, tdp: float | None, folder: str) -> Any:
    from codecarbon import OfflineEmissionsTracker

    more = {} if tdp is None else {"force_cpu_power": tdp}
    return OfflineEmissionsTracker(
        country_iso_code=country, tracking_mode="process", measure_power_secs=1.0, output_methods=[],
        output_handlers=[], output_dir=folder, emissions_endpoint=False, electricitymaps_api_token=False,
        cloud_provider=False, allow_multiple_runs=True, log_level="critical", pue=1.0, api_call_interval=-1,
        **more,
    )  # fmt: skip


class _Silent:
    """codecarbon's own logger says nothing meanwhile."""

    def __enter__(self) -> None:
        logging.getLogger("codecarbon").disabled = True

    def __exit__(self, *_: object) -> None:
        logging.getLogger("codecarbon").disabled = False
