"""Reaching MLflow: which store, quickly failing, in our own errors."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from headgate.config import home
from headgate.errors import RegistryError, RegistryUnreachableError
from headgate.registry.reachable import check_address

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["connect", "environment", "masked", "translated"]

# MLflow's own are 7 tries of 120 s each: minutes until a wrong address is an error.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
_PASSWORD = re.compile(
    r"^([\w+.-]+://[^/@:]*):.*@|((?<=[?&])(?:password|pwd)=)[^&]*", re.IGNORECASE
)
_UNREACHABLE = re.compile(
    r"Max retries exceeded|failed with exception|Connection (refused|aborted|reset)|timed out"
    r"|unable to open database file|could not connect|could not translate host name",
    re.IGNORECASE,
)


def environment(root: Path) -> dict[str, str]:
    """What a process needs in its environment to use the registry of the bundle at ``root``.

    That is ``MLFLOW_TRACKING_URI`` where it is set; else the embedded store, a SQLite file
    with artifacts beside it in the bundle's state folder.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return {"MLFLOW_TRACKING_URI": uri}
    state = home(root)
    return {
        "MLFLOW_TRACKING_URI": _embedded(state),
        # Where clients of a local store put the artifacts of new experiments. MLflow's
        # default is ./mlruns, wherever a command happens to be run.
        "_MLFLOW_SERVER_ARTIFACT_ROOT": (state / "mlartifacts").as_uri(),
    }


def connect(root: Path) -> tuple[MlflowClient, str]:
    """An MLflow client and its URI; a database is opened, a remote server not yet asked.

    Raises:
        RegistryError: the address is wrong, or the database cannot be opened.
    """
    settings = environment(root)
    uri = settings["MLFLOW_TRACKING_URI"]
    if uri == _embedded(home(root)):
        home(root).mkdir(parents=True, exist_ok=True)
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    os.environ.update(settings)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.tracking import MlflowClient

    # It announces every table it creates and every default it takes. Its import sets levels.
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    with translated(uri):
        check_address(uri, masked(uri))
        return MlflowClient(tracking_uri=uri, registry_uri=uri), uri


def masked(uri: str) -> str:
    """The URI without a password, whatever else may be wrong with it."""
    return _PASSWORD.sub(lambda m: f"{m[1]}:***@" if m[1] is not None else f"{m[2]}***", uri)


def _embedded(state: Path) -> str:
    return f"sqlite:///{state / 'mlflow.db'}"


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turn what MLflow, its HTTP client and its database raise into Headgate's errors."""
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        text = str(error).strip().replace(uri, masked(uri)) or type(error).__name__
        text = text.splitlines()[0]
        if isinstance(error, OSError) and error.filename:
            raise  # a full disk or a read-only folder: the command line names the file
        schemes = getattr(error, "supported_uri_schemes", None)
        if schemes is not None:
            raise RegistryError(
                "the registry refused: MLflow knows no address of this kind",
                where=masked(uri),
                remedy="set MLFLOW_TRACKING_URI to one that begins with "
                + ", ".join(f"{scheme}:" for scheme in sorted(schemes) if scheme),
            ) from None
        file = uri.startswith("sqlite:")
        if _UNREACHABLE.search(str(error)):
            raise RegistryUnreachableError(
                "the database cannot be opened" if file else "the registry does not answer",
                where=masked(uri),
                remedy="see what lies there, and its permissions"
                if file
                else "see that the server runs and that MLFLOW_TRACKING_URI is right",
            ) from None
        raise RegistryError(
            f"the registry refused: {shorten(text, 300, placeholder=' …')}",
            where=masked(uri),
            remedy="restore the file, or move it away"
            if file
            else "see that MLFLOW_TRACKING_URI is right, and the log of its server",
        ) from None
