"""Who may refuse a request before there is one, and requests that begin as one of those before them did.

Under overload most requests are refused, and what a refusal takes, answers lack. A client says the
same in the header of each of its requests: where that is so byte for byte, it is not parsed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

__all__ = ["Head", "Known", "Refusals", "Refusing"]

Head = Mapping[bytes, bytes]
"""The headers of a request; of a repeated one the last."""
_LONGEST = 2048
_MOST = 256
"""Headers that are kept."""
_END = b"\r\n\r\n"


class Refusing(Protocol):
    """Who can refuse a request to some path before there is one: before its body, task and scope.

    Under overload that decides how much is left for the requests that are answered.
    """

    def pressed(self) -> bool:
        """Whether there is so much to do that :meth:`refusal` should be asked."""

    def refusal(self, head: Head, since: float) -> tuple[int, bytes] | None:
        """Status and the rest of the answer from its own headers on; None to let it in.

        ``since`` is when the request may have arrived.
        """

    def let_in(self) -> None:
        """A request was not refused."""


class Known(NamedTuple):
    """A request that has been refused before, but for its body."""

    refusing: Refusing
    head: Head
    size: int
    """Of all of it, bytes."""


class Refusals:
    """Of one app: who refuses, and what has been."""

    def __init__(self, paths: Mapping[bytes, Refusing]) -> None:
        """``paths`` are whole URLs as they are asked for."""
        self._paths = paths
        self._known: dict[bytes, Known] = {}

    def at(self, url: bytes) -> Refusing | None:
        """Who refuses there."""
        return self._paths.get(url)

    def known(self, data: bytes) -> Known | None:
        """The request that ``data`` is, all of it and nothing else, if it is known."""
        known = self._known.get(data[: data.find(_END, 0, _LONGEST) + len(_END)])
        return known if known is not None and known.size == len(data) else None

    def keep(
        self, data: bytes, refusing: Refusing, headers: list[tuple[bytes, bytes]], head: Head
    ) -> None:
        """Know a request again that ``data`` begins with; its ``headers`` are complete and valid."""
        end = data.find(_END, 0, _LONGEST)
        lengths = [value for name, value in headers if name == b"content-length"]
        if end < 0 or len(lengths) != 1 or b"transfer-encoding" in head:
            return
        # Empty lines may come before a request: what ends there is not its header.
        if data.count(b"\r\n", 0, end) != len(headers):
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        size = end + len(_END) + int(lengths[0])
        self._known[data[: end + len(_END)]] = Known(refusing, head, size)
