"""5. Verdict → traffic: which release should be live, and the engine that makes it so."""

from __future__ import annotations

from headgate.rollout.local import OWNER, Launched, LocalPlatform, Running
from headgate.rollout.plan import (
    is_valid,
    passing_verdict,
    replay,
    rollback_target,
)

__all__ = [
    "OWNER",
    "Launched",
    "LocalPlatform",
    "Running",
    "is_valid",
    "passing_verdict",
    "replay",
    "rollback_target",
]
