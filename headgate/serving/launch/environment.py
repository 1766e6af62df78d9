"""The environment of a worker."""

from __future__ import annotations

import os

from headgate.serving.launch.scratch import Scratch

__all__ = ["DRAIN_S", "GRPC", "PARENT", "RELEASE", "environment"]

PARENT = "HEADGATE_LAUNCHER_PID"
"""Set by the launcher for its workers: its own process id."""
RELEASE = "HEADGATE_RELEASE"
DRAIN_S = "HEADGATE_DRAIN_S"
GRPC = "HEADGATE_GRPC"
"""Set to 1 by a launcher that listens for gRPC."""
_THREADS = (
    "HEADGATE_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
)


def environment(
    scratch: Scratch,
    *,
    threads: int,
    release: str,
    drain_s: float,
    exported: bool,
    grpc: bool = False,
) -> dict[str, str]:
    """What every worker of a server has in its environment, beside what the launcher has.

    ``threads`` bounds every numerical library. ``exported`` says that a Bento is served, which
    carries what it needs: it never looks into this machine's BentoML store.
    """
    env = dict(os.environ)
    env.update(dict.fromkeys(_THREADS, str(threads)))
    env.update(
        {
            PARENT: str(os.getpid()),
            RELEASE: release,
            DRAIN_S: f"{drain_s:g}",
            GRPC: str(int(grpc)),
            "PROMETHEUS_MULTIPROC_DIR": str(scratch.metrics),
            "TMPDIR": str(scratch.temporary),
            "BENTOML_DO_NOT_TRACK": "True",
            "PYTHONUNBUFFERED": "1",
        }
    )
    if exported or "BENTOML_HOME" not in env:
        env["BENTOML_HOME"] = str(scratch.home)
    # It would make BentoML number workers by somebody else's map of services.
    env.pop("BENTOML_RUNNER_MAP", None)
    return env
