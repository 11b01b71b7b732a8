"""Several processes, on one host or many, that sweep together: who does which part, and where they wait.

Each has its own devices and its own slice of the parts; nothing but waiting goes between them.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import jax
from jax.experimental import multihost_utils

from svdtrace.errors import SettingError

FAILED = 2


@dataclass(frozen=True)
class Processes:
    """How many processes sweep, and which of them this is; the first leads."""

    index: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Processes:
        """Those that `jax.distributed` knows of; one without it."""
        return cls(jax.process_index(), jax.process_count())

    @property
    def leads(self) -> bool:
        """Whether this one keeps the folder's lock, manifest and rejected prompts."""
        return self.index == 0

    def does(self, part: int) -> bool:
        """Whether a part is this one's to trace."""
        return part % self.count == self.index

    def wait(self, name: str) -> None:
        """Go on when all processes are here."""
        if self.count > 1:
            multihost_utils.sync_global_devices(name)


@contextmanager
def leaving(tell: Callable[[BaseException], int]) -> Iterator[None]:
    """Where what happens within fails, this process ends at once.

    Ended as usual it would first wait for the others, who wait for it; when it is gone they fail, too.

    Args:
        tell: says what failed, and the exit status.
    """
    try:
        yield
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing failed.
        raise
    except (Exception, KeyboardInterrupt) as error:
        status = FAILED
        try:
            status = tell(error)
        except BaseException:  # it is to be seen whole
            traceback.print_exc()
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def join(coordinator: str | None = None, count: int | None = None, index: int | None = None) -> None:
    """Meet the other processes of a sweep; to be called before anything else of JAX.

    Args:
        coordinator: `HOST:PORT` of the first process; with the others `None` where TPU pods, SLURM, Kubernetes or
            Open MPI tell.
        count: how many processes there are.
        index: which of them this is, from 0.

    Raises:
        SettingError: they do not meet, or nothing tells where.
    """
    try:
        jax.distributed.initialize(coordinator, count, index)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SettingError(
            f"the processes do not meet ({reason}); give --coordinator HOST:PORT, --processes and --process to each"
        ) from None
