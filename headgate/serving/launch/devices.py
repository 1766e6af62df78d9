"""Which GPUs a worker may use."""

from __future__ import annotations

import os
from collections.abc import Sequence

__all__ = ["pin", "visible_gpus"]


def visible_gpus() -> tuple[str, ...]:
    """The GPUs of this machine, or those that ``CUDA_VISIBLE_DEVICES`` leaves us.

    By UUID where the driver tells them: CUDA may number devices differently than the driver does.
    Empty where there is none, no driver, or no way to ask it.
    """
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return tuple(name.strip() for name in allowed.split(",") if name.strip() not in {"", "-1"})
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        count = pynvml.nvmlDeviceGetCount()
        return tuple(
            pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index))
            for index in range(count)
        )
    finally:
        pynvml.nvmlShutdown()


def pin(gpus: Sequence[str], *, per_worker: int, worker: int, taken: int = 0) -> str:
    """``CUDA_VISIBLE_DEVICES`` for the ``worker``-th worker of a service; empty for none.

    Workers get GPUs of their own, in turn, after the ``taken`` ones of other services; where there
    are too few they share, round robin.
    """
    if not gpus or not per_worker:
        return ""
    first = taken + worker * per_worker
    chosen = [gpus[(first + i) % len(gpus)] for i in range(min(per_worker, len(gpus)))]
    return ",".join(dict.fromkeys(chosen))
