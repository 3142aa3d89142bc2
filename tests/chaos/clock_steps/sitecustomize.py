"""Python runs this at its start where the folder is in PYTHONPATH: the wall clock of the process can be set then.

The file that INFERRY_CHAOS_CLOCK names holds 8 bytes, the seconds to add. It stands in for a wall clock that is set by
hand or by NTP: it moves what Python code reads with `time.time`, in all processes of an Inferry at once, and nothing
else; the monotonic clock goes on, as a real one would.
"""

import mmap
import os
import struct
import time
from pathlib import Path

_path = os.environ.get("INFERRY_CHAOS_CLOCK")
if _path:
    with Path(_path).open("rb") as _file:
        _offset = mmap.mmap(_file.fileno(), 8, access=mmap.ACCESS_READ)
    _real_time = time.time

    def _stepped_time() -> float:
        added: float = struct.unpack_from("d", _offset)[0]
        return _real_time() + added

    time.time = _stepped_time
