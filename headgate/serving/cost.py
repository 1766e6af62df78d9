"""What a call of the engine costs, learned from the calls it made."""

from __future__ import annotations

__all__ = ["CallCost"]

_KEEP = 0.95
"""Weight that older calls keep at each new one: about the last twenty count."""
_OUTLIER = 8.0
"""A call this many times dearer than expected counts as that many times, a second one in a row as
the square of that, and so on: a stalled machine must not make a cheap engine look dear, a slower
engine must show within a few calls."""


class CallCost:
    """Seconds of one call as ``fixed + per_row * rows``.

    Least squares over past calls, weighted down exponentially. While all calls have about the
    same number of rows the two cannot be told apart: their last ratio stands, at first all of
    it per row, which errs on the dear side for larger calls.
    """

    __slots__ = ("_c", "_n", "_nc", "_nn", "_outliers", "_w", "fixed_s", "known", "per_row_s")

    def __init__(self) -> None:
        self._w = self._n = self._c = self._nn = self._nc = 0.0
        self._outliers = 0
        """Of the last calls, all in a row."""
        self.known = False
        """Whether there was a call yet; before, everything costs nothing."""
        self.fixed_s = 0.0
        self.per_row_s = 0.0

    def predict(self, rows: int) -> float:
        """Expected seconds of a call with ``rows`` rows."""
        return self.fixed_s + self.per_row_s * rows

    def learn(self, rows: int, seconds: float) -> None:
        """Take a finished call into account."""
        expected = self.predict(rows)
        if 0.0 < expected * _OUTLIER < seconds:
            self._outliers += 1
            seconds = min(seconds, expected * _OUTLIER**self._outliers)
        else:
            self._outliers = 0
        self.known = True
        self._w = self._w * _KEEP + 1.0
        self._n = self._n * _KEEP + rows
        self._c = self._c * _KEEP + seconds
        self._nn = self._nn * _KEEP + rows * rows
        self._nc = self._nc * _KEEP + rows * seconds
        mean_n, mean_c = self._n / self._w, self._c / self._w
        variance = self._nn / self._w - mean_n * mean_n
        if variance > 0.01 * mean_n * mean_n:
            slope = (self._nc / self._w - mean_n * mean_c) / variance
            # Neither part can be negative, whatever the noise and the rounding.
            self.per_row_s = min(max(slope, 0.0), mean_c / mean_n)
            self.fixed_s = max(mean_c - self.per_row_s * mean_n, 0.0)
        elif (usual := self.fixed_s + self.per_row_s * mean_n) > 0.0:
            self.fixed_s *= mean_c / usual
            self.per_row_s *= mean_c / usual
        else:
            self.per_row_s = mean_c / mean_n
