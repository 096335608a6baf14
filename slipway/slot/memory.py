"""Whether the host is short of memory, as the kernel says."""

from __future__ import annotations

import re
from pathlib import Path

MEMORY = Path("/proc/meminfo")
PRESSURE = Path("/proc/pressure/memory")  # not on every kernel

_MIN_AVAILABLE = 0.10  # of all memory
_MAX_PRESSURE = 10.0  # per cent of the last ten seconds in which some process waited for memory


def shortage() -> str:
    """Why memory is short, as a part of a sentence; "" when it is not."""
    try:
        pressure = PRESSURE.read_text()
    except OSError:
        pressure = ""
    try:
        return describe_shortage(MEMORY.read_text(), pressure)
    except OSError as error:
        return f"how much memory is free cannot be read ({error.strerror})"


def describe_shortage(memory: str, pressure: str) -> str:
    """The same for the content of /proc/meminfo and of /proc/pressure/memory ("" where the kernel has none)."""
    sizes = {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", memory, re.MULTILINE)}
    total, available = sizes.get("MemTotal", 0), sizes.get("MemAvailable")
    if not total or available is None:
        return "how much memory is free is not in /proc/meminfo"
    if available < total * _MIN_AVAILABLE:
        return f"memory is short (MemAvailable {available // 1024} MB of {total // 1024} MB)"
    some = re.search(r"^some avg10=([\d.]+)", pressure, re.MULTILINE)
    if some and float(some[1]) > _MAX_PRESSURE:
        return f"memory is short (some process waited for it in {float(some[1]):.0f} % of the last 10 s)"
    return ""
