"""A generator that crashes, hangs, or outlives the gate."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from gate.loads import asked, leaves_nothing, write
from gate.server import serving

from headgate.errors import GateError, InputError
from headgate.gate.link import LOAD
from headgate.gate.load import GENERATOR, Load
from headgate.gate.plan import Ask, Block, Target, arrivals

TESTS = Path(__file__).parents[1]
NOBODY = Target(url="http://127.0.0.1:1", asks=(Ask(path="/", body=b"{}"),))
SHORT = Block(target=0, order=(0,), at_s=(0.0,), seconds=0.0)
LONG = Block(target=0, order=(0,), at_s=(300.0,), seconds=300.0)

CRASHES = {
    "raises": (
        'raise RuntimeError("no wheel on the cart")',
        r"ended with 1 before its time: RuntimeError: no wheel on the cart",
    ),
    "refuses": (
        'raise SystemExit("run `make ship`")',
        r"ended with 1 before its time: run `make ship`",
    ),
    "is silent": (
        "import os\nos._exit(3)",
        r"ended with 3 before its time: it said nothing",
    ),
    "is killed": (
        "import os\nos.kill(os.getpid(), 9)",
        r"was killed by signal 9: it said nothing",
    ),
    "has no user": ("x = 1", r"ended with 1 before its time: .*No User class found"),
    "fails at its task": (
        """
        from headgate.gate.generator import PlannedLoad
        def carry_out(self, block):
            raise ValueError("the plan is in Greek")
        PlannedLoad.carry_out = carry_out
        """,
        r"ended with 0 before its time: ValueError: the plan is in Greek",
    ),
    "ends early": (
        """
        from locust import FastHttpUser, task
        class Quitter(FastHttpUser):
            @task
            def quit(self):
                self.environment.runner.quit()
        """,
        r"ended with 0 before its time: it said nothing",
    ),
    "writes rubbish": (
        """
        import os, struct
        from headgate.gate.link import LOAD, Link
        link = Link.to(os.environ[LOAD])
        link.socket.sendall(struct.pack("!Q", 7) + b"rubbish")
        os._exit(0)
        """,
        r"ended with 0 before its time: it said nothing",
    ),
    "says half of it": (
        """
        import os, struct
        from headgate.gate.link import LOAD, Link
        link = Link.to(os.environ[LOAD])
        link.socket.sendall(struct.pack("!Q", 7) + b"rub")
        os._exit(0)
        """,
        r"ended with 0 before its time: it said nothing",
    ),
}


@pytest.mark.parametrize("how", CRASHES)
def test_a_crash_ends_with_its_last_words(how: str, tmp_path: Path) -> None:
    content, words = CRASHES[how]
    locustfile = write(tmp_path, content)
    workdir = tmp_path / "run"
    with (
        leaves_nothing(workdir),
        pytest.raises(GateError, match=f"the load generator {words}") as caught,
        Load([NOBODY], workdir=workdir, locustfile=locustfile) as load,
    ):
        load.send(SHORT)
    assert caught.value.where == str(locustfile)
    assert "locust -f load_tests/locustfile.py" in caught.value.remedy


def test_no_locustfile(tmp_path: Path) -> None:
    gone = tmp_path / "gone.py"
    with (
        leaves_nothing(tmp_path),
        pytest.raises(GateError, match=r"Could not find .*gone\.py"),
        Load([NOBODY], workdir=tmp_path, locustfile=gone),
    ):
        pass


HANGS = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
time.sleep(600)
"""


def test_a_generator_that_never_comes_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.gate.load._SPARE_S", 1.5)
    workdir = tmp_path / "run"
    with (
        leaves_nothing(workdir),
        pytest.raises(GateError, match=r"not answered for too long — see whether this machine"),
        Load([NOBODY], workdir=workdir, locustfile=write(tmp_path, HANGS)),
    ):
        pass


def generators_from_now_on() -> Callable[[], list[psutil.Process]]:
    """Who is started after this; other tests may have children of their own."""
    before = psutil.Process().children()
    return lambda: [child for child in psutil.Process().children() if child not in before]


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.touch()
    with (
        pytest.raises(GateError, match="File exists — give a folder") as caught,
        Load([NOBODY], workdir=taken),
    ):
        pass
    assert caught.value.where == str(taken)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_a_generator_that_is_killed_or_stopped_in_the_middle(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two: the other one is not left behind either."""
    words = {
        "SIGKILL": "the load generator was killed by signal 9: it said nothing",
        "SIGSTOP": "the load generator has not answered for too long",
    }
    moments: list[psutil.Process] = []
    generators = generators_from_now_on()

    def send_signal() -> None:
        moments.extend(generators()[:1])
        moments[0].send_signal(getattr(signal, name))

    def send_impatiently(load: Load) -> None:
        monkeypatch.setattr("headgate.gate.load.TIMEOUT_S", 0.0)
        monkeypatch.setattr("headgate.gate.load._SPARE_S", 0.6)
        block = Block(target=0, order=(0, 0), at_s=(0.1, 0.4), seconds=0.4)
        load.send(block if name == "SIGSTOP" else LONG, send_signal)

    workdir = tmp_path / "run"
    with (
        leaves_nothing(workdir),
        pytest.raises(GateError, match=words[name]),
        Load([NOBODY], workdir=workdir, generators=2) as load,
    ):
        send_impatiently(load)
    assert moments


MUMBLES = """
import os, struct, time
from headgate.gate.link import LOAD, Link
from headgate.gate.plan import Block, Target
link = Link.to(os.environ[LOAD])
link.receive(tuple[Target, ...])
link.receive(Block)
link.socket.sendall(struct.pack("!Q", 7) + b"rub")
time.sleep(600)
"""


def test_a_generator_that_stops_in_the_middle_of_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "run"

    def send_impatiently(load: Load) -> None:
        monkeypatch.setattr("headgate.gate.load._SPARE_S", 0.3)
        load.send(LONG)

    with (
        leaves_nothing(workdir),
        pytest.raises(GateError, match="has not answered for too long"),
        Load([NOBODY], workdir=workdir, locustfile=write(tmp_path, MUMBLES)) as load,
    ):
        send_impatiently(load)


def test_an_interrupted_gate_takes_its_generator_along(tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    generators = generators_from_now_on()

    def interrupt() -> None:
        assert len(generators()) == 1
        raise KeyboardInterrupt

    with (
        leaves_nothing(workdir),
        pytest.raises(KeyboardInterrupt),
        Load([NOBODY], workdir=workdir) as load,
    ):
        load.send(LONG, interrupt)


# The port is open to all of the machine until the generators have come.
STRANGERS = """
import os, socket, struct
from headgate.gate.link import LOAD
host, port, token = os.environ[LOAD].split(":")
strangers = [socket.create_connection((host, int(port))) for _ in range(4)]
strangers[0].sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
strangers[1].sendall(struct.pack("!Q", 3) + b"\\xa2\\xc3\\xa9")
strangers[2].close()
from headgate.gate.generator import PlannedLoad
"""


def test_generators_share_a_block_and_strangers_have_no_part_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.gate.link._GREETING_S", 0.1)
    asks = asked().asks
    at_s = arrivals([(125, 0.8)], np.random.default_rng(0))
    order = tuple(np.random.default_rng(1).integers(0, len(asks), len(at_s)).tolist())
    workdir = tmp_path / "run"
    moments: list[int] = []
    generators = generators_from_now_on()
    with serving() as server, leaves_nothing(workdir):
        targets = [NOBODY, Target(url=server.url, asks=asks)]
        with Load(
            targets, workdir=workdir, locustfile=write(tmp_path, STRANGERS), generators=2
        ) as load:
            block = Block(target=1, order=order, at_s=tuple(at_s.tolist()), seconds=0.8)
            seen = load.send(block, lambda: moments.append(len(generators())))
            closed = load.send(Block(target=1, order=(0, 1), seconds=0.3, connections=3))
    # Each request once, and in its place.
    assert (seen.ask, seen.at_s) == (order, block.at_s)
    assert sorted(server.bodies[: len(order)]) == sorted(asks[ask].body for ask in order)
    assert set(seen.status) == {200}
    assert np.isfinite(seen.done_s).all()
    assert 0 < seen.cpu < 1
    assert len(server.seen) == len(order) + len(closed.ask)
    assert list(closed.at_s) == sorted(closed.at_s)
    assert moments
    assert set(moments) == {2}


ORPHAN = """
import sys
from pathlib import Path
from gate.loads import asked, subject
from headgate.config import LoadProfile
from headgate.gate.measure import measure
profile = LoadProfile(duration_s=120, warmup_s=0, block_s=60)
for _ in measure(subject(sys.argv[1], rate=50), None, profile, workdir=Path(sys.argv[2]),
                 progress=print):
    pass
"""


def test_a_killed_gate_leaves_no_load_behind(tmp_path: Path) -> None:
    with serving() as server:
        gate = subprocess.Popen(
            [sys.executable, "-c", ORPHAN, server.url, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: len(server.seen) > 20 or gate.poll() is not None)
            children = psutil.Process(gate.pid).children()
        finally:
            gate.kill()
            gate.wait()
        assert len(children) == 2  # Locust, and the endpoint that it is calibrated with
        wait_until(lambda: all(ended(child) for child in children))
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


def test_generators_on_other_machines(tmp_path: Path) -> None:
    """Started as the gate says, here on the same machine."""
    came: list[subprocess.Popen[bytes]] = []

    def start(line: str) -> None:
        words = line.split()
        assert line.startswith("waiting for 1 more generators: HEADGATE_LOAD=127.0.0.1:")
        setting = next(word for word in words if word.startswith(f"{LOAD}="))
        command = words[words.index(setting) + 1 :]
        assert command[:-1] == [
            *("locust", "-f", "generator.py", "--headless", "--users", "1", "--host")
        ]
        command[command.index("generator.py")] = str(GENERATOR)
        came.append(
            subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=tmp_path,
                env={**os.environ, LOAD: setting.partition("=")[2]},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    with serving() as server:
        whom = Target(url=server.url, asks=asked().asks)
        block = Block(target=0, order=tuple(range(20)), at_s=(0.0,) * 20, seconds=0.1)
        workdir = tmp_path / "run"
        with Load([whom], workdir=workdir, remote=1, progress=start) as load:
            seen = load.send(block)
    (process,) = came
    assert process.wait(30) == 0, "it ends with the gate"
    assert seen.status == (200,) * 20
    assert sorted(seen.ask) == list(range(20))
    assert len(server.seen) == 20


@pytest.mark.parametrize("listen", ["5557", "127.0.0.1:", "127.0.0.1:port", "127.0.0.1:99999"])
def test_no_address_to_listen_on(listen: str, tmp_path: Path) -> None:
    load = Load([NOBODY], workdir=tmp_path, remote=1, listen=listen)
    with (
        leaves_nothing(tmp_path),
        pytest.raises((InputError, GateError), match="give host:port") as caught,
        load,
    ):
        pass
    assert listen in caught.value.where
