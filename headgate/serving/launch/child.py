"""A worker process: BentoML's own worker, tied to the launcher that started it.

``python -m headgate.serving.launch.child PATH --fd N …`` takes the arguments of
``_bentoml_impl.worker.service``; the file descriptor is the launcher's channel.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import sys
import traceback

from headgate.errors import HeadgateError
from headgate.serving.launch.channel import Report, send_report
from headgate.serving.launch.environment import PARENT

__all__ = ["last_clear_line", "main"]

_PR_SET_PDEATHSIG = 1
# `package.SomeError: what was wrong`, the last line of a traceback
_RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*(?:Error|Exception|Exit|Interrupt)): (.+)$")


def main(arguments: list[str]) -> None:
    """Serve until told to stop; ends the process."""
    parent = int(os.environ[PARENT])
    _die_with(parent)
    channel = socket.socket(fileno=os.dup(int(arguments[arguments.index("--fd") + 1])))
    try:
        from headgate.serving import drain

        drain.install()

        from _bentoml_impl.worker.service import main as serve

        serve(args=arguments, standalone_mode=False)
    except SystemExit as end:
        if isinstance(end.code, str):
            _fail(channel, end.code)
        raise
    except HeadgateError as error:  # said in a way that needs no traceback
        _fail(channel, str(error))
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None
    except Exception:
        _fail(channel, last_clear_line(traceback.format_exc()))
        raise


def last_clear_line(text: str) -> str:
    """What a traceback comes down to: the message of the last exception in it, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in reversed(lines):
        if found := _RAISED.match(line):
            name, message = found.groups()
            # Our own errors and BentoML's are sentences; of another the kind matters too.
            ours = line.startswith(("headgate.errors.", "bentoml.exceptions."))
            return message if ours else f"{name}: {message}"
    return lines[-1] if lines else "died without a word"


def _fail(channel: socket.socket, reason: str) -> None:
    send_report(channel, Report(event="failed", reason=reason))


def _die_with(parent: int) -> None:
    """End when the launcher ends, however it does.

    Linux kills us with it. Elsewhere the channel's end of file does, once the event loop runs.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        os._exit(70)


if __name__ == "__main__":
    main(sys.argv[1:])
