"""1. Which version: MLflow as registry and as history, and ``models.lock``."""

from __future__ import annotations

from headgate.registry.client import Registry
from headgate.registry.lock import read_lock, write_lock
from headgate.registry.versions import Fetched, ModelVersion

__all__ = ["Fetched", "ModelVersion", "Registry", "read_lock", "write_lock"]
