"""A lock that dies with its process: it says whether whoever began something is still at it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks on this system: what the file says of its owner decides
    fcntl = None

_PAUSE = 0.05
# A link in the lock's place may lead to anybody's file, which would be emptied.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
# Where the system keeps such locks for a process rather than for whom opened the file, it would give one twice.
_ours: set[Path] = set()


@contextmanager
def held(path: Path, *, wait: float = 0.0, keep: bool = False) -> Iterator[None]:
    """Hold the lock that a file stands for until the block ends or the process dies.

    On file systems without locks the file names its owner, host and process, instead; what another host left there
    counts as held, since nobody can tell.

    Args:
        path: the file, made where it is not there.
        wait: seconds to wait for whoever holds it.
        keep: whether the file stays afterwards.

    Raises:
        BlockingIOError: somebody else holds it, in this process or in another.
        OSError: the file cannot be made.
    """
    path, until = path.absolute(), time.monotonic() + wait
    while (handle := _taken(path)) is None:
        if time.monotonic() >= until:
            raise BlockingIOError(f"{path} is held")
        time.sleep(_PAUSE)
    _ours.add(path)
    try:
        yield
    finally:
        _ours.discard(path)
        if keep:
            os.truncate(handle, 0)
        else:
            # While it is held: who waits for it finds it gone, and makes another.
            path.unlink(missing_ok=True)
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether somebody, in this process or in another, holds the lock of a file."""
    if not path.exists():
        return False
    try:
        with held(path, keep=True):
            return False
    except BlockingIOError:
        return True
    except OSError:  # not ours to write
        return False


def _taken(path: Path) -> int | None:
    """The file, open and locked; `None` where somebody else has it."""
    while path not in _ours:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        if not _locked(handle):
            os.close(handle)
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        # Its owner removed it while we opened it.
        os.close(handle)
    return None


def _locked(handle: int) -> bool:
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            pass
    owner = os.pread(handle, 1024, 0).decode("utf-8", "replace").split()
    if len(owner) == 2 and not _is_dead(*owner):
        return False
    os.truncate(handle, 0)
    os.pwrite(handle, f"{socket.gethostname()} {os.getpid()}".encode(), 0)
    return True


def _is_dead(host: str, process: str) -> bool:
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return True
    except OSError:  # another user's
        return False
    return int(process) == os.getpid()
