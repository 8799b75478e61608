"""The kernel's own measure of a host that is short of memory."""

import re
from pathlib import Path
from typing import Final

from bringup.drivers.base import MemoryPressure

PRESSURE: Final = Path("/proc/pressure/memory")
_AVERAGE: Final = re.compile(r"^(some|full) avg10=(\d+\.\d+) ", re.MULTILINE)


def read_memory_pressure(path: Path = PRESSURE) -> MemoryPressure | None:
    """Return it; None: this kernel does not measure it, or not now (``psi=1`` on its command line)."""
    try:
        found = dict(_AVERAGE.findall(path.read_text(encoding="ascii", errors="replace")))
    except OSError:
        return None
    if found.keys() < {"some", "full"}:
        return None
    return MemoryPressure(some=float(found["some"]), full=float(found["full"]))
