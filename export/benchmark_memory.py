"""Memory of this process, where the system tells."""

import re
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_kb():
    """Memory held now, in kilobytes (1024 bytes), or None: only Linux tells."""
    return _from_status("VmRSS")


def peak_mb():
    """Largest memory held so far, in megabytes (2^20 bytes), or None where the system does not tell.

    Linux' own high-water mark goes before getrusage's, which starts at that of the process that started this one.
    """
    peak = _from_status("VmHWM")
    if peak is not None:
        return peak / 1024
    try:
        import resource
    except ImportError:  # Windows has no such module
        return None
    unit = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _from_status(key):
    if not STATUS.exists():
        return None
    found = re.search(rf"^{key}:\s*(\d+) kB$", STATUS.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
    return float(found[1]) if found else None
