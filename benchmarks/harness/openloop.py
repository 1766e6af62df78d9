"""Open loop: requests leave on a schedule, whatever becomes of those before them.

Times count from the moment a request was *meant* to leave, so that neither a slow server nor a
late generator hides anything.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.harness.client import Client

__all__ = ["Offered", "offer"]

Seconds = npt.NDArray[np.float64]
_MOST_CONNECTIONS = 4096
"""With so many unanswered, the rest wait for one of them: a server's doing, and counted as such."""
_PATIENCE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Offered:
    """What became of each request, in the order of the schedule."""

    late: Seconds
    """The generator's own doing: how much later than meant it turned to each."""
    latency: Seconds
    """From the meant moment to the whole answer; infinite where there was none."""
    status: npt.NDArray[np.int64]
    """0 where there was no answer."""

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Which were answered with 200."""
        good: npt.NDArray[np.bool_] = self.status == 200
        return good

    def quantile_ms(self, share: float) -> float:
        """Of the latency of good answers, milliseconds; infinite where there are none."""
        good = self.latency[self.ok]
        return float(np.quantile(good, share)) * 1e3 if len(good) else float("inf")

    @property
    def late_p95_ms(self) -> float:
        """The generator's own lateness: what is below it was not measured."""
        return float(np.quantile(self.late, 0.95)) * 1e3


def offer(
    port: int, requests: Sequence[bytes], *, rate: float, seconds: float, seed: int = 0
) -> Offered:
    """Send ``requests`` in turn, at random moments, ``rate`` a second on average."""
    count = max(1, round(rate * seconds))
    gaps = np.random.default_rng(seed).exponential(1 / rate, count)
    connections = int(min(max(rate * 0.02, 8), 128))
    client = Client(port, connections)
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _Schedule(client, requests, np.cumsum(gaps)).run()
    finally:
        client.close()
        if collecting:
            gc.enable()


class _Schedule:
    """One run."""

    def __init__(self, client: Client, requests: Sequence[bytes], due: Seconds) -> None:
        self._client = client
        self._requests = requests
        self._due: list[float] = due.tolist()
        self._sent = [float("nan")] * len(due)
        self._done = [float("inf")] * len(due)
        self._status = [0] * len(due)
        self._waiting: deque[int] = deque()
        self._left = len(due)

    def run(self) -> Offered:
        due, count = self._due, len(self._due)
        list(self._client.answers(0.01))  # let the first connections open
        start = time.monotonic() + 0.01
        end = due[-1] + _PATIENCE_S
        upcoming = 0
        while self._left and (now := time.monotonic() - start) < end:
            while upcoming < count and due[upcoming] <= now:
                self._sent[upcoming] = now
                self._send(upcoming)
                upcoming += 1
                now = time.monotonic() - start
            until = due[upcoming] if upcoming < count else end
            for key, (status, _) in self._client.answers(max(until - now, 0)):
                self._done[key] = time.monotonic() - start
                self._status[key] = status
                self._left -= 1
                if self._waiting:
                    self._send(self._waiting.popleft())
        sent = np.array(self._sent)
        meant = np.array(due)
        never = np.isnan(sent)
        sent[never] = end
        return Offered(
            late=sent - meant,
            latency=np.array(self._done) - meant,
            status=np.array(self._status, dtype=np.int64),
        )

    def _send(self, index: int) -> None:
        client = self._client
        if not client.idle and client.size >= _MOST_CONNECTIONS:
            self._waiting.append(index)
            return
        try:
            client.send(self._requests[index % len(self._requests)], index)
        except OSError:
            self._left -= 1
