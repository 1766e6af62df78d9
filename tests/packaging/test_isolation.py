"""The child has no credentials and bounds, and whatever becomes of it is one clear error."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LinearRegression

from headgate.errors import PackagingError, UnsafeModelError
from headgate.packaging import child, isolation
from headgate.packaging.exchange import JOB, NATIVE, REFERENCE, RESULT, Job, Result
from headgate.packaging.isolation import clean_environment, run_child
from headgate.packaging.signature import fit_reference, signature_of
from headgate.predictor import Reference
from tests.packaging.makers import tabular
from tests.packaging.streams import call, named, text, whole

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIA",
    "AWS_SECRET_ACCESS_KEY": "hush",
    "AWS_SESSION_TOKEN": "hush",
    "AZURE_STORAGE_CONNECTION_STRING": "hush",
    "GOOGLE_APPLICATION_CREDENTIALS": "/hush.json",
    "DATABRICKS_TOKEN": "hush",
    "GITHUB_TOKEN": "hush",
    "MLFLOW_TRACKING_URI": "https://user:hush@registry",
    "MLFLOW_TRACKING_PASSWORD": "hush",
    "MLFLOW_TRACKING_TOKEN": "hush",
    "SSH_AUTH_SOCK": "/hush",
    "PYTHONSTARTUP": "/hush.py",
    "LD_PRELOAD_OF_SOMEBODY": "hush",
}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A small regression, and the files of a job that tries it with its own module."""
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    model = LinearRegression().fit(x, x[:, 0])
    reference = tabular({"x": x}, {"prediction": model.predict(x)})
    skops.io.dump(model, tmp_path / "model.skops")
    signature = signature_of((), reference)
    (tmp_path / "work").mkdir()
    fit_reference(reference, signature).save(tmp_path / "work" / REFERENCE)
    (tmp_path / "room.py").write_text("")
    return Job(
        flavor="sklearn",
        format="skops",
        file=str(tmp_path / "model.skops"),
        signature=signature,
        tolerance=1e-5,
        wanted=(),
        module=str(tmp_path / "room.py"),
    )


def run(job: Job, does: str = "", **options: Any) -> Result:
    """Run the job; the room's module, which the child loads first, does this."""
    folder = Path(job.file).parent
    (folder / "room.py").write_text(does)
    return run_child(folder / "work", job, **options)


def ended(pid: int) -> bool:
    """Whether the process ends within a minute; a zombie that nobody waits for has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 60)[0])
    finally:
        os.close(handle)


def test_it_sees_no_credentials_and_has_bounds(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in SECRETS.items():
        monkeypatch.setenv(name, content)
    folder = Path(job.file).parent
    told = (
        "import json, os, resource, sys\n"
        "from pathlib import Path\n"
        "limits = [resource.getrlimit(each)[0] for each in\n"
        "          (resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)]\n"
        "seen = dict(environ=dict(os.environ), cwd=os.getcwd(), limits=limits, path=sys.path,\n"
        "            session=os.getsid(0), input=sys.stdin.read())\n"
        f"Path({str(folder / 'seen')!r}).write_text(json.dumps(seen))\n"
        "os._exit(0)\n"
    )
    with pytest.raises(PackagingError, match="code 0"):
        run(job, told)
    seen = json.loads((folder / "seen").read_text())
    assert not SECRETS.keys() & seen["environ"].keys()
    assert "hush" not in json.dumps(seen["environ"])
    work = str(folder / "work")
    assert seen["environ"]["HOME"] == seen["environ"]["TMPDIR"] == seen["cwd"] == work
    assert seen["environ"]["OMP_NUM_THREADS"] == "1"
    assert work not in seen["path"]
    assert "" not in seen["path"]
    assert seen["session"] != os.getsid(0)
    assert seen["input"] == ""
    assert 0 <= seen["limits"][0] <= child.CPU_S
    assert 0 <= seen["limits"][1] <= child.FILE_BYTES
    assert seen["limits"][2] == 0


def test_the_environment_is_a_short_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYTHING", "else")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.delenv("LANG", raising=False)
    passed = clean_environment(tmp_path)
    assert passed["TZ"] == "Asia/Tokyo"
    assert "LANG" not in passed
    assert "ANYTHING" not in passed


def test_a_pickle_that_got_past_the_audit_is_refused_where_it_is_opened(job: Job) -> None:
    folder = Path(job.file).parent
    marker = folder / "marker"
    (folder / "evil.pkl").write_bytes(whole(call(named("os", "system"), text(f"touch {marker}"))))
    evil = msgspec.structs.replace(job, format="pickle", file=str(folder / "evil.pkl"))
    with pytest.raises(UnsafeModelError, match=r"unpickling it would import os\.system") as caught:
        run(evil)
    assert caught.value.where == evil.file
    assert "packaging.module" in caught.value.remedy
    assert not marker.exists()


@pytest.mark.parametrize(
    ("does", "says", "remedy"),
    [
        ("import os; os._exit(7)", "ended with code 7: it said nothing", "library versions"),
        ("import os; os._exit(0)", "ended with code 0: it said nothing", "library versions"),
        (
            "import os, sys; print('first\\nlast words\\n\\n', file=sys.stderr); os._exit(1)",
            "ended with code 1: last words",
            "library versions",
        ),
        ("raise SystemExit('no more')", "ended with code 1: no more", "library versions"),
        ("import os; os.kill(os.getpid(), 11)", "crashed with SIGSEGV: ", "library versions"),
        ("import os; os.kill(os.getpid(), 6)", "crashed with SIGABRT: ", "library versions"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL", "larger machine"),
        ("raise ValueError('a\\n b')", "ValueError: a b", "on its own reference"),
        ("raise ValueError('x' * 9000)", "ValueError: xxx", "on its own reference"),
        ("def f(): f()\nf()", "RecursionError: ", "on its own reference"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'", "on its own"),
    ],
)
def test_however_it_ends_there_is_one_clear_error(
    job: Job, does: str, says: str, remedy: str
) -> None:
    with pytest.raises(PackagingError) as caught:
        run(job, does)
    assert says in caught.value.what
    assert len(caught.value.what) < 500
    assert "\n" not in str(caught.value)
    assert caught.value.where == job.file
    assert remedy in caught.value.remedy


def test_it_is_killed_when_it_takes_too_long(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """With whatever it started, and however deaf it is."""
    folder = Path(job.file).parent
    does = (
        "import os, signal, subprocess, sys\n"
        "from pathlib import Path\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"Path({str(folder / 'new')!r}).write_text(f'{{os.getpid()}} {{other.pid}}')\n"
        f"os.rename({str(folder / 'new')!r}, {str(folder / 'pids')!r})\n"
        "signal.pause()\n"
    )

    class Watched(subprocess.Popen):  # type: ignore[type-arg]
        """Its time begins when it is deep in its work, so that a slow machine is no reason."""

        def wait(self, timeout: float | None = None) -> int:
            while timeout is not None and not (folder / "pids").exists():
                assert self.poll() is None
            return super().wait(timeout)

    monkeypatch.setattr(isolation.subprocess, "Popen", Watched)
    with pytest.raises(PackagingError, match=r"took more than 0\.2 s") as caught:
        run(job, does, timeout_s=0.2)
    assert 'engine = "native"' in caught.value.remedy
    pids = [int(pid) for pid in (folder / "pids").read_text().split()]
    assert len(pids) == 2
    assert all(ended(pid) for pid in pids)


def test_what_it_left_running_is_ended_with_it(job: Job) -> None:
    folder = Path(job.file).parent
    does = (
        "import os, subprocess, sys\n"
        "from pathlib import Path\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"Path({str(folder / 'pid')!r}).write_text(str(other.pid))\n"
        "os._exit(3)\n"
    )
    with pytest.raises(PackagingError, match="code 3"):
        run(job, does)
    assert ended(int((folder / "pid").read_text()))


def test_an_interrupt_ends_it(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def wait(self, timeout: float | None = None) -> int:
            if not started:
                started.append(self)
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(isolation.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(job, "import signal; signal.pause()")
    assert started[0].returncode == -signal.SIGKILL


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"noise\xff\n" * 100_000 + b"the end\n\n")
    assert isolation._last_line(log) == "the end"


def test_the_program_writes_what_came_of_it(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, without the limits."""
    work = Path(job.file).parent / "work"
    set_to: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(resource, "setrlimit", set_to.__setitem__)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, 1000))
    (work / JOB).write_bytes(msgspec.json.encode(job))
    child.main(work)
    assert msgspec.json.decode((work / RESULT).read_bytes(), type=Result) == Result()
    native = Reference.load(work / NATIVE)
    np.testing.assert_allclose(native.outputs["prediction"], [0, 2, 4, 6, 8, 10], atol=1e-5)
    assert set_to[resource.RLIMIT_CPU] == (child.CPU_S, 1000)
    assert set_to[resource.RLIMIT_FSIZE] == (1000, 1000)
    broken = msgspec.structs.replace(job, file=str(work / "none.skops"), module="")
    (work / JOB).write_bytes(msgspec.json.encode(broken))
    child.main(work)
    found = msgspec.json.decode((work / RESULT).read_bytes(), type=Result)
    assert found.error.startswith("FileNotFoundError: ")
    assert not found.unsafe


def test_the_program_tells_what_is_unsafe(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Path(job.file).parent / "work"
    monkeypatch.setattr(child, "_limit", lambda: None)
    (work.parent / "evil.pkl").write_bytes(whole(call(named("os", "getpid"))))
    evil = msgspec.structs.replace(job, format="pickle", file=str(work.parent / "evil.pkl"))
    (work / JOB).write_bytes(msgspec.json.encode(evil))
    child.main(work)
    found = msgspec.json.decode((work / RESULT).read_bytes(), type=Result)
    assert found == Result(error="unpickling it would import os.getpid", unsafe=True)


def test_it_runs_as_a_program_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "headgate.packaging.child"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(child.__file__).parents[2])},
    )
    assert done.returncode == 1
    assert "IndexError" in done.stderr
