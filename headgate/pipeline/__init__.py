"""The only composer of rooms: train → register → package → build → gate → rollout, and back."""

from __future__ import annotations

from headgate.pipeline.anywhere import Endpoint, Judged, Wanted, gate_samples, gate_url
from headgate.pipeline.bundle import Bundle, Room
from headgate.pipeline.calling import Callee, callee
from headgate.pipeline.containerizing import Containerized, containerize
from headgate.pipeline.judging import gate
from headgate.pipeline.live import Status, promote, roll_back, serve, status, up
from headgate.pipeline.make import Built, build, find, lock, pick, train
from headgate.pipeline.pruning import Pruned, prune
from headgate.pipeline.shipping import Shipped, ship
from headgate.pipeline.sizing import Range, Sized, Sizing, Tuned, size

__all__ = [
    "Built",
    "Bundle",
    "Callee",
    "Containerized",
    "Endpoint",
    "Judged",
    "Pruned",
    "Range",
    "Room",
    "Shipped",
    "Sized",
    "Sizing",
    "Status",
    "Tuned",
    "Wanted",
    "build",
    "callee",
    "containerize",
    "find",
    "gate",
    "gate_samples",
    "gate_url",
    "lock",
    "pick",
    "promote",
    "prune",
    "roll_back",
    "serve",
    "ship",
    "size",
    "status",
    "train",
    "up",
]
