"""The energy counters of a CPU's packages (RAPL, David et al. 2010), as Linux shows them under /sys/class/powercap.

    E = sum over packages of (counter after - counter before) mod range            in microjoules

Each package's counter runs up to ``max_energy_range_uj`` and begins at zero again, at a few hundred watts within half
an hour, so it is read every ``every`` seconds meanwhile. Where a package shows a domain for each of its dies that are
all the same counter, it is taken once. A package is cores, caches and what else is on the chip; a server's memory, fans
and disks are not in it, and neither is an accelerator. Everything that runs on the package is, other programs too.

Since 2020 only root may read the counters unless the administrator says otherwise (CVE-2020-8694); virtual machines
have none as a rule.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from trimtab.core.errors import BadInput
from trimtab.core.reading import How
from trimtab.measure.every import every as often

FOLDER = Path("/sys/class/powercap")
SAME = 1_000_000  # microjoules: what passes between two readings of one counter


@dataclass(frozen=True)
class Domain:
    """A package's counter; ``range``: the microjoules at which it begins anew."""

    name: str
    path: Path
    range: int

    def read(self) -> int:
        """Microjoules now. Raises PermissionError where this user may not."""
        return int((self.path / "energy_uj").read_text())


def domains(folder: Path = FOLDER) -> list[Domain]:
    """The packages that have a counter, each once. Raises PermissionError as ``read`` does."""
    found: list[tuple[Domain, int]] = []
    for path in sorted(folder.glob("intel-rapl:*")):
        if not re.fullmatch(r"intel-rapl:\d+", path.name) or not (path / "energy_uj").exists():
            continue
        name = (path / "name").read_text().strip()
        if not name.startswith("package"):  # psys: the packages again, with what is around them
            continue
        domain = Domain(name, path, int((path / "max_energy_range_uj").read_text()))
        now = domain.read()
        if not any(_package(name) == _package(one.name) and abs(now - read) < SAME for one, read in found):
            found.append((domain, now))
    return [domain for domain, _ in found]


def _package(name: str) -> str:
    return name.partition("-die")[0]


def unreadable(folder: Path = FOLDER) -> str:
    """Why there is nothing to read here, or "" where there is."""
    try:
        return "" if domains(folder) else f"{folder} has no package counter"
    except PermissionError as error:
        return f"{error.filename} is not readable by this user (run as root, or: sudo chmod a+r {error.filename})"


class Rapl:
    """``with Rapl() as meter: ...`` then ``meter.joules``. May be entered again; then it begins at zero."""

    how: How = "timed"

    def __init__(self, folder: Path = FOLDER, every: float = 30.0) -> None:
        self.folder, self.every = folder, every
        self.joules = 0.0
        self.source = "measured: RAPL"
        self._last: dict[Domain, int] = {}
        self._watching = ExitStack()

    def __enter__(self) -> Rapl:
        """Raises BadInput where there are no counters, or this user may not read them."""
        reason = unreadable(self.folder)
        if reason:
            raise BadInput(f"RAPL: {reason}")
        found = domains(self.folder)
        self.source = f"measured: RAPL, {len(found)} package{'s' if len(found) > 1 else ''}"
        self.joules = 0.0
        self._last = {one: one.read() for one in found}
        self._watching.enter_context(often(self.every, self.poll))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.close()

    def poll(self) -> None:
        """Add what was used since the last look."""
        for domain, last in self._last.items():
            self._last[domain] = now = domain.read()
            self.joules += (now - last) % domain.range / 1e6
