"""Memory of this machine, compared with what data needs before it is allocated."""

import contextlib
import os
from pathlib import Path

from fnet.data.source import DataError

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def total() -> int:
    """Return the memory that this process may use, in bytes: that of the machine, or a lower limit of the process."""
    limits = [2**63 - 1]
    with contextlib.suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for file in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(Path(file).read_text()))
    with contextlib.suppress(ImportError):
        import resource

        limits += [limit for limit, _ in map(resource.getrlimit, (resource.RLIMIT_AS, resource.RLIMIT_DATA))]
    return min(limit for limit in limits if limit > 0)


def refuse_beyond_memory(needed: int, what: str, fix: str, setting: str | None = None) -> None:
    """Refuse data that needs more memory than this process may use.

    Args:
        needed: bytes to allocate.
        what: what they are for, as the subject of the message.
        fix: how to need less.
        setting: the setting in the config's `data` section that causes the error, if any.

    Raises:
        DataError: when the memory is too small.
    """
    available = total()
    if needed > available:
        raise DataError(f"{what} needs {_size(needed)} of memory, but {_size(available)} are available; {fix}", setting)


def _size(number: int) -> str:
    """Write a number of bytes in GB, small ones in MB.

    >>> _size(24 * 10**9), _size(5 * 10**6)
    ('24 GB', '5 MB')
    """
    return f"{number / 1e9:,.3g} GB" if number >= 1e9 else f"{number / 1e6:,.3g} MB"
