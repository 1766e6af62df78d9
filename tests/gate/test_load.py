"""A generator that crashes, hangs, or outlives the gate."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from gate.server import serving

from headgate.errors import GateError
from headgate.gate.load import load
from headgate.gate.plan import Plan

TESTS = Path(__file__).parents[1]
SHORT = Plan(path="/", bodies=(b"{}",), order=(0,), at_s=(0.0,))

CRASHES = {
    "raises": (
        'raise RuntimeError("no wheel on the cart")',
        r"ended with 1 without results: RuntimeError: no wheel on the cart",
    ),
    "refuses": (
        'raise SystemExit("run `make ship`")',
        r"ended with 1 without results: run `make ship`",
    ),
    "is silent": (
        "import os\nos._exit(3)",
        r"ended with 3 without results: it said nothing",
    ),
    "is killed": (
        "import os\nos.kill(os.getpid(), 9)",
        r"was killed by signal 9 without results: it said nothing",
    ),
    "has no user": ("x = 1", r"ended with 1 without results: .*No User class found"),
    "fails at its task": (
        """
        from headgate.gate.generator import PlannedLoad
        def send_all(self, plan):
            raise ValueError("the plan is in Greek")
        PlannedLoad.send_all = send_all
        """,
        r"ended with 0 without results: ValueError: the plan is in Greek",
    ),
    "ends early": (
        """
        from locust import FastHttpUser, task
        class Quitter(FastHttpUser):
            @task
            def quit(self):
                self.environment.runner.quit()
        """,
        r"ended with 0 without results: it said nothing",
    ),
    "writes rubbish": (
        """
        import os
        from pathlib import Path
        Path(os.environ["HEADGATE_LOAD_PLAN"], "run.msgpack").write_bytes(b"rubbish")
        os._exit(0)
        """,
        r"ended with 0 without results: it said nothing",
    ),
}


@contextlib.contextmanager
def leaves_nothing(workdir: Path) -> Iterator[None]:
    """Neither a file nor a process."""
    before = psutil.Process().children()
    yield
    assert list(workdir.iterdir()) == []
    assert psutil.Process().children() == before


def write(folder: Path, content: str) -> Path:
    path = folder / "locustfile.py"
    path.write_text(textwrap.dedent(content))
    return path


def ignore(_: str) -> None:
    pass


@pytest.mark.parametrize("how", CRASHES)
def test_a_crash_ends_with_its_last_words(how: str, tmp_path: Path) -> None:
    content, words = CRASHES[how]
    locustfile = write(tmp_path, content)
    workdir = tmp_path / "run"
    with (
        leaves_nothing(workdir),
        pytest.raises(GateError, match=f"the load generator {words}") as caught,
    ):
        load("http://127.0.0.1:1", SHORT, locustfile, workdir, ignore)
    assert caught.value.where == str(locustfile)
    assert "locust -f load_tests/locustfile.py" in caught.value.remedy


def test_no_locustfile(tmp_path: Path) -> None:
    gone = tmp_path / "gone.py"
    with leaves_nothing(tmp_path), pytest.raises(GateError, match=r"Could not find .*gone\.py"):
        load("http://127.0.0.1:1", SHORT, gone, tmp_path, ignore)


HANGS = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
time.sleep(600)
"""


def test_a_hanging_generator_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.gate.load.TIMEOUT_S", 0.0)
    monkeypatch.setattr("headgate.gate.load._SPARE_S", 1.5)
    locustfile = write(tmp_path, HANGS)
    workdir = tmp_path / "run"
    with (
        leaves_nothing(workdir),
        pytest.raises(GateError, match=r"had not ended after \d+ s — see whether this machine"),
    ):
        load("http://127.0.0.1:1", SHORT, locustfile, workdir, ignore)


def test_an_interrupted_gate_takes_its_generator_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.gate.load._SAY_EVERY_S", 0.0)
    locustfile = write(tmp_path, HANGS)
    workdir = tmp_path / "run"
    long = Plan(path="/", bodies=(b"{}",), order=(0,), at_s=(300.0,))

    def interrupt(line: str) -> None:
        assert line.strip() in {"299 s left", "300 s left"}
        raise KeyboardInterrupt

    with leaves_nothing(workdir), pytest.raises(KeyboardInterrupt):
        load("http://127.0.0.1:1", long, locustfile, workdir, interrupt)


ORPHAN = """
import sys
from pathlib import Path
from gate.server import SIGNATURE, reference
from headgate.config import LoadProfile
from headgate.gate import measure
measure(sys.argv[1], "m", reference(), SIGNATURE, LoadProfile(duration_s=120), rate=50,
        release="r:1", tolerance=1e-5, load_time_s=1, workdir=Path(sys.argv[2]), progress=print)
"""


def test_a_killed_gate_leaves_no_load_behind(tmp_path: Path) -> None:
    with serving() as server:
        gate = subprocess.Popen(
            [sys.executable, "-c", ORPHAN, server.url, str(tmp_path)],
            env={"PYTHONPATH": str(TESTS)},
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: len(server.seen) > 20 or gate.poll() is not None)
            (generator,) = psutil.Process(gate.pid).children()
        finally:
            gate.kill()
            gate.wait()
        # It looks for its parent twice a second, and is to send for two minutes.
        wait_until(lambda: ended(generator))
    assert len(server.seen) < 50 * 60


def ended(process: psutil.Process) -> bool:
    """Whether it is gone, or only waits for a parent to take notice."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def wait_until(done: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)
