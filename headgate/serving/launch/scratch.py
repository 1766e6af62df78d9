"""The private folder of one running server: sockets, metrics files, BentoML's home."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from headgate.errors import ServingError

__all__ = ["Scratch"]

_PREFIX = "headgate-"


class Scratch:
    """A folder under the temporary folder that only this user can enter (mode 0700).

    It is removed by :meth:`close`. A server that was killed cannot do so; whoever starts next
    removes what it left, told by a lock that the kernel let go of.
    """

    def __init__(self) -> None:
        _sweep()
        try:
            self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getuid()}-"))
            self._lock = (self.path / "unlocked").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            # Nobody ever finds the lock free while this server lives.
            (self.path / "unlocked").rename(self.path / "lock")
            for name in ("metrics", "home", "tmp"):
                (self.path / name).mkdir()
        except OSError as error:
            raise ServingError(
                f"cannot make a temporary folder: {error.strerror}",
                where=tempfile.gettempdir(),
                remedy="free some space, or name a writable folder in TMPDIR",
            ) from None

    @property
    def metrics(self) -> Path:
        """Where the metrics of all processes of this server meet."""
        return self.path / "metrics"

    @property
    def home(self) -> Path:
        """An empty BentoML home."""
        return self.path / "home"

    @property
    def temporary(self) -> Path:
        """The workers' own temporary folder."""
        return self.path / "tmp"

    def close(self) -> None:
        """Remove the folder and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _sweep() -> None:
    """Remove the folders of servers that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}{os.getuid()}-*"):
        # No lock yet: one in the making. A lock that is held: one in use.
        with contextlib.suppress(OSError), (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
