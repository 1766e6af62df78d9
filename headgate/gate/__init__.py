"""4. Release → evidence → verdict. :mod:`measure` does the I/O, :mod:`judge` is pure.

Importing this takes numpy, no Locust: that runs in a process of its own, because it patches the
one it is imported in.
"""

from __future__ import annotations

from headgate.gate.answers import ModelAnswers
from headgate.gate.cost import NO_PRICE, cost_check, cost_per_million, replicas
from headgate.gate.judge import conclude, judge, settle
from headgate.gate.measure import measure
from headgate.gate.plan import Ask, Target
from headgate.gate.replies import Replies, first_replies, place_of
from headgate.gate.report import Moment, reports
from headgate.gate.stepping import Stepping, find_capacity
from headgate.gate.subject import Asked, Subject, ask_model, reach
from headgate.gate.trial import Trial, not_measured
from headgate.gate.tuning import Descent, choices, compare

__all__ = [
    "NO_PRICE",
    "Ask",
    "Asked",
    "Descent",
    "ModelAnswers",
    "Moment",
    "Replies",
    "Stepping",
    "Subject",
    "Target",
    "Trial",
    "ask_model",
    "choices",
    "compare",
    "conclude",
    "cost_check",
    "cost_per_million",
    "find_capacity",
    "first_replies",
    "judge",
    "measure",
    "not_measured",
    "place_of",
    "reach",
    "replicas",
    "reports",
    "settle",
]
