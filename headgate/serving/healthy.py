"""``python -m headgate.serving.healthy``: whether the server of this container can answer.

Exit code 0 or 1, as a container's health check wants it. The port is ``HEADGATE_PORT``'s, else that of the
``headgate.toml`` in the working folder.
"""

from __future__ import annotations

import contextlib
import http.client
import sys
from pathlib import Path

from headgate.config import load_config

_PATIENCE_S = 2


def main() -> int:
    """Ask ``/readyz``."""
    port = load_config(Path.cwd()).server.port
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    ) as connection:
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            said = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            sys.stderr.write(f"headgate: nobody answers at port {port}: {error}\n")
            return 1
    if answer.status != http.client.OK:
        sys.stderr.write(f"headgate: not ready: {said}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
