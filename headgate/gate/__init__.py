"""4. Release → samples → verdict. :mod:`measure` does the I/O, :mod:`judge` is pure.

Importing this takes numpy, no Locust: that runs in a process of its own, because it patches the
one it is imported in.
"""

from __future__ import annotations

from headgate.gate.judge import conclude, judge
from headgate.gate.measure import measure
from headgate.gate.report import markdown

__all__ = ["conclude", "judge", "markdown", "measure"]
