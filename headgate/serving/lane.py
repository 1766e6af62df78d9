"""A thread for the calls of one engine that are too long for the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar, TypeVarTuple

__all__ = ["Lane", "hand_over"]

T = TypeVar("T")
Args = TypeVarTuple("Args")


def hand_over(
    loop: asyncio.AbstractEventLoop, callback: Callable[[*Args], None], *args: *Args
) -> None:
    """Have ``loop`` call ``callback``, from any thread; a loop that is closed is left alone."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, *args)


class Lane:
    """Runs jobs one after the other.

    The thread is a daemon: an engine that hangs for good must not keep the process from
    leaving, as the threads of ``concurrent.futures`` do.
    """

    def __init__(self, name: str) -> None:
        """``name`` shows in profiles and stack dumps."""
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def put(self, job: Callable[[], None]) -> None:
        """Run ``job``, which must not raise, after those put before."""
        self._jobs.put(job)

    async def run(self, function: Callable[[], T]) -> T:
        """What ``function`` returns or raises, run here.

        Raises:
            RuntimeError: it raised what is no ``Exception``, which would end the event loop.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def tell(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]
            else:
                future.set_exception(error)

        def job() -> None:
            try:
                result = function()
            except Exception as error:  # noqa: BLE001
                hand_over(loop, tell, None, error)
            except BaseException as error:  # noqa: BLE001
                told = RuntimeError(f"{type(error).__name__}: {error}")
                hand_over(loop, tell, None, told)
            else:
                hand_over(loop, tell, result, None)

        self.put(job)
        return await future

    def close(self) -> None:
        """End the thread after the jobs it has."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
