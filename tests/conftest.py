"""What holds for the whole suite."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

# Threads that spin while they wait for work take the processor from the other tests.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A busy machine makes slow examples; time limits are pytest's. The same examples every time, so
# that a change is what turns a test red; `--hypothesis-profile=explore` draws others.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("headgate", settings.get_profile("explore"), derandomize=True)
settings.load_profile("headgate")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Trace nothing while a test asks what runs in processes of its own.

    Coverage cannot follow it there, and before Python 3.12 makes whatever it does see take twice as
    long.
    """
    if not config.pluginmanager.hasplugin("_cov"):
        return
    for item in items:
        if item.get_closest_marker("e2e") and not item.get_closest_marker("in_process"):
            item.add_marker("no_cover")


class _ByFile(LoadFileScheduling):  # type: ignore[misc]
    """By file, and all that use the clone of `tests/e2e` together: shipping one takes a minute."""

    _WITHOUT_CLONE = ("test_killed.py",)

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        folder, _, name = file.rpartition("/")
        return folder if folder == "tests/e2e" and name not in self._WITHOUT_CLONE else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _ByFile:
    """See pytest-xdist."""
    return _ByFile(config, log)
