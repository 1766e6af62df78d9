"""Serves a Bento by its own ``headgate.toml``: what an image starts.

``python -m headgate.serving BENTO [--host HOST]``

It ends as :mod:`headgate.serving.launcher` does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from headgate.config import load_config
from headgate.errors import HeadgateError
from headgate.serving.launch.services import release_of, source_of
from headgate.serving.launcher import run


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m headgate.serving", description="Serve a Bento."
    )
    parser.add_argument("bento", type=Path, help="its folder")
    parser.add_argument("--host", help="address to listen on; by default that of headgate.toml")
    options = parser.parse_args()
    try:
        server = load_config(source_of(options.bento)).server
        release = release_of(options.bento)
    except HeadgateError as error:
        sys.stderr.write(f"headgate: {error}\n")
        return 2
    if options.host:
        server = msgspec.structs.replace(server, host=options.host)
    return run(options.bento, server, release=release)


if __name__ == "__main__":
    raise SystemExit(main())
