"""Every error Headgate raises on purpose.

::

    HeadgateError            what was wrong, where, and what would be right
    ├── ConfigError          a setting in headgate.toml, model.toml or models.lock
    ├── InputError           a request, a row or a command-line value
    │   └── UnknownModelError    no model, or no version, of that name
    ├── RegistryError        the registry refused or holds something unexpected
    │   └── RegistryUnreachableError  nobody answered at the tracking URI
    ├── PackagingError       a registered version cannot become a predictor
    │   ├── ParityError          it can, but its answers differ from the model as trained
    │   └── UnsafeModelError     opening it could run code that nobody reviewed
    ├── ArtifactError        a packaged predictor is missing, incomplete or altered
    ├── ServingError         a server did not start, stop or answer as it should
    │   ├── PortInUseError       somebody else holds the port
    │   ├── OverloadError        the queue is full, or the deadline cannot be met
    │   └── DeadlineExceededError     the deadline passed before there was an answer
    ├── GateError            a load test that could not be carried out
    ├── RolloutError         traffic was not moved
    │   └── VerdictRequiredError      no passing verdict for this very release
    └── BusyError            another Headgate command is at work on this state

The tree knows no HTTP and no exit codes: ``headgate.serving`` maps it to the
first, ``headgate.cli`` to the second.
"""

from __future__ import annotations

__all__ = [
    "ArtifactError",
    "BusyError",
    "ConfigError",
    "DeadlineExceededError",
    "GateError",
    "HeadgateError",
    "InputError",
    "OverloadError",
    "PackagingError",
    "ParityError",
    "PortInUseError",
    "RegistryError",
    "RegistryUnreachableError",
    "RolloutError",
    "ServingError",
    "UnknownModelError",
    "UnsafeModelError",
    "VerdictRequiredError",
]


class HeadgateError(Exception):
    """Base of the tree.

    ``where`` names the object (a file and key, a row and column, a model and
    version); ``remedy`` says what would be right. Both end up in the message.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(what, where, remedy)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head} — {self.remedy}" if self.remedy else head


class ConfigError(HeadgateError):
    """A setting in ``headgate.toml``, ``model.toml`` or ``models.lock`` is wrong."""


class InputError(HeadgateError):
    """A request, a row or a command-line value is wrong; its sender can mend it."""


class UnknownModelError(InputError):
    """There is no model, or no version of it, by that name."""


class RegistryError(HeadgateError):
    """The registry refused, or holds something unexpected."""


class RegistryUnreachableError(RegistryError):
    """Nobody answered at the tracking URI."""


class PackagingError(HeadgateError):
    """A registered version cannot become a predictor."""


class ParityError(PackagingError):
    """The packaged predictor's answers differ from those of the model as trained."""


class UnsafeModelError(PackagingError):
    """Opening the model could run code that nobody reviewed."""


class ArtifactError(HeadgateError):
    """A packaged predictor is missing, incomplete or altered."""


class ServingError(HeadgateError):
    """A server did not start, stop or answer as it should."""


class PortInUseError(ServingError):
    """Somebody else holds the port."""


class OverloadError(ServingError):
    """The queue is full, or the deadline cannot be met.

    ``retry_after_s`` is how long, in seconds, the sender should wait.
    """

    def __init__(
        self, what: str, *, where: str = "", remedy: str = "", retry_after_s: float = 1.0
    ) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.retry_after_s = retry_after_s


class DeadlineExceededError(ServingError):
    """The deadline passed before there was an answer."""


class GateError(HeadgateError):
    """A load test could not be carried out."""


class RolloutError(HeadgateError):
    """Traffic was not moved."""


class VerdictRequiredError(RolloutError):
    """There is no passing verdict for this very release."""


class BusyError(HeadgateError):
    """Another Headgate command is at work on this state."""
