"""Runs Locust, in processes of its own, for as long as there are blocks to send."""

from __future__ import annotations

import ipaddress
import os
import secrets
import selectors
import site
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from headgate.errors import GateError, InputError
from headgate.gate.link import LOAD, Link
from headgate.gate.plan import TIMEOUT_S, Block, Seen, Target, merge, split

__all__ = ["GENERATOR", "LOOPBACK", "Load"]

GENERATOR = Path(__file__).with_name("generator.py")
"""A locustfile that does nothing but carry out the gate's blocks."""
_SPARE_S = 30.0
"""How long Locust may take to start, and beyond a block to tell of it."""
_POLL_S = 0.25
_GATHER_S = 300.0
"""How long generators on other machines may take to come."""
LOOPBACK = "127.0.0.1:0"
"""Where generators on this machine find their work: at any port that is free."""


class Load:
    """Generators that wait for blocks; a context, which ends them and leaves nothing.

    Raises:
        GateError: Locust crashed, was killed or took far too long, or has nowhere to write to.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        workdir: Path,
        locustfile: Path = GENERATOR,
        generators: int = 1,
        remote: int = 0,
        listen: str = LOOPBACK,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Nothing happens before the context is entered.

        Args:
            targets: Whom the blocks may ask.
            workdir: Where Locust's output goes; nothing stays.
            locustfile: Carries out what it is told where ``HEADGATE_LOAD`` leads.
            generators: How many processes of this machine share the load.
            remote: How many on other machines share it with them.
            listen: ``host:port`` where those find their work.
            progress: Told how to start them.
        """
        self._targets = tuple(targets)
        self._workdir = workdir
        self._locustfile = locustfile.resolve()
        self._local = generators
        self._count = generators + remote
        self._listen = listen
        self._progress = progress
        self._processes: list[subprocess.Popen[bytes]] = []
        self._links: list[Link] = []

    def __enter__(self) -> Self:
        try:
            self._workdir.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(dir=self._workdir, prefix="load-")
        except OSError as error:
            raise GateError(
                error.strerror or str(error),
                where=str(self._workdir),
                remedy="give a folder that can be written to",
            ) from None
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for link in self._links:
            link.close()
        for process in self._processes:
            process.kill()
            process.wait()
        self._folder.cleanup()

    def send(self, block: Block, each_moment: Callable[[], None] = lambda: None) -> Seen:
        """Send a block and wait for what came of it; ``each_moment`` is called while it lasts."""
        for link, share in zip(self._links, split(block, self._count), strict=True):
            self._tell(link, share)
        deadline = time.monotonic() + block.seconds + TIMEOUT_S + _SPARE_S
        found: dict[int, Seen] = {}
        with selectors.DefaultSelector() as selector:
            for index, link in enumerate(self._links):
                selector.register(link.socket, selectors.EVENT_READ, index)
            while len(found) < self._count:
                for key, _ in selector.select(_POLL_S):
                    found[key.data] = self._hear(self._links[key.data])
                    selector.unregister(key.fileobj)
                if len(found) < self._count:
                    self._check(deadline)
                each_moment()
        return merge([found[index] for index in range(self._count)])

    def _start(self) -> None:
        token = secrets.token_hex(16)
        host, port = self._place()
        try:
            listener = socket.create_server((host, port))
        except OSError as error:
            raise GateError(
                f"cannot listen for generators ({error.strerror or error})",
                where=self._listen,
                remedy="give host:port of this machine that is free",
            ) from None
        with listener:
            listener.settimeout(_POLL_S)
            bound, port = listener.getsockname()[:2]
            near = "127.0.0.1" if ipaddress.ip_address(bound).is_unspecified else bound
            for _ in range(self._local):
                self._processes.append(self._spawn(f"{near}:{port}:{token}"))
            wait_s = _SPARE_S
            if self._count > self._local:
                wait_s = _GATHER_S
                self._progress(
                    f"waiting for {self._count - self._local} more generators: {LOAD}="
                    f"{host}:{port}:{token} locust -f {GENERATOR.name} --headless --users 1 "
                    f"--host {self._targets[0].url}"
                )
            deadline = time.monotonic() + wait_s
            while len(self._links) < self._count:
                self._check(deadline)
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                if link := Link.taken(connection, token):
                    self._links.append(link)
        for link in self._links:
            self._tell(link, self._targets)

    def _place(self) -> tuple[str, int]:
        host, _, port = self._listen.rpartition(":")
        known = port.isascii() and port.isdigit() and int(port) <= 65535
        if not host or not known:
            raise InputError(
                "no address to listen on", where=repr(self._listen), remedy="give host:port"
            )
        return host.strip("[]"), int(port)

    def _tell(self, link: Link, message: object) -> None:
        try:
            link.send(message, within_s=_SPARE_S)
        except TimeoutError:
            raise self._stuck() from None
        except OSError:
            raise self._crashed() from None

    def _hear(self, link: Link) -> Seen:
        try:
            return link.receive(Seen, within_s=_SPARE_S)
        except TimeoutError:
            raise self._stuck() from None
        except (EOFError, OSError, msgspec.DecodeError):
            raise self._crashed() from None

    def _spawn(self, address: str) -> subprocess.Popen[bytes]:
        command = [
            *(sys.executable, "-m", "locust", "--locustfile", str(self._locustfile)),
            *("--host", self._targets[0].url, "--headless", "--users", "1", "--only-summary"),
            "--exit-code-on-error=0",
            # Python's own logging shows warnings and no tables: the last words are of what went wrong.
            "--skip-log-setup",
        ]
        # Neither LOCUST_… nor a locust.conf or pyproject.toml of the caller's folder has a say, nor
        # ~/.locust.conf: so home is elsewhere, but for what is installed there.
        mine = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
        home = str(Path(self._folder.name).resolve())
        mine = {"PYTHONUSERBASE": site.getuserbase(), **mine, "HOME": home, LOAD: address}
        with self._log(len(self._processes)).open("wb") as log:
            return subprocess.Popen(
                command,
                cwd=self._folder.name,
                env=mine,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _log(self, index: int) -> Path:
        return Path(self._folder.name) / f"locust-{index}.log"

    def _check(self, deadline: float) -> None:
        """Hold that all generators run, and that there is time left."""
        if any(process.poll() is not None for process in self._processes):
            raise self._crashed()
        if time.monotonic() > deadline:
            raise self._stuck()

    def _stuck(self) -> GateError:
        return GateError(
            "the load generator has not answered for too long",
            where=str(self._locustfile),
            remedy="see whether this machine is overloaded",
        )

    def _crashed(self) -> GateError:
        """Of a generator that hung up: how it ended, and its last words."""
        deadline = time.monotonic() + 5
        codes = [process.poll() for process in self._processes]
        while all(code is None for code in codes) and time.monotonic() < deadline:
            time.sleep(0.05)
            codes = [process.poll() for process in self._processes]
        index = next((place for place, code in enumerate(codes) if code is not None), 0)
        return GateError(
            f"the load generator {_end(codes[index])}: {self._last_words(index)}",
            where=str(self._locustfile),
            remedy="see whether Locust runs by hand: locust -f load_tests/locustfile.py",
        )

    def _last_words(self, index: int) -> str:
        text = self._log(index).read_text(errors="replace")
        lines = (line for line in reversed(text.splitlines()) if line.strip())
        return next(lines, "it said nothing")


def _end(code: int | None) -> str:
    if code is None:
        return "hung up"
    return f"was killed by signal {-code}" if code < 0 else f"ended with {code} before its time"
