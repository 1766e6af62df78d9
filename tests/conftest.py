"""What holds for the whole suite."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine makes slow examples; time limits are pytest's.
settings.register_profile("headgate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("headgate")
