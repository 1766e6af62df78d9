"""Whether an address can be a registry at all, told in seconds.

MLflow tries a database ten times, for minutes in all, and makes the folders of a SQLite file.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from headgate.errors import RegistryError, RegistryUnreachableError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

__all__ = ["check_address"]

_PATIENCE_S = 5
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_PACKAGES = {
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
}


def check_address(uri: str, shown: str) -> None:
    """Raise where MLflow could not use ``uri``; a database is opened once, a server not asked.

    Raises:
        RegistryError: it is no address, lacks a driver, or is a file in no folder.
        RegistryUnreachableError: no database listens there.
        sqlalchemy.exc.SQLAlchemyError: the database refuses.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    try:
        if scheme == "sqlite" or scheme in _PORTS:
            _check_database(uri, shown)
        elif scheme in ("http", "https"):
            _ = urlsplit(uri).port  # raises where it is none
    except ValueError as error:
        raise RegistryError(
            f"this is no address: {error}", where=shown, remedy="mend MLFLOW_TRACKING_URI"
        ) from None
    except ModuleNotFoundError as error:
        package = _PACKAGES.get(error.name or "", error.name)
        raise RegistryError(
            f"the database's driver {error.name} is not installed",
            where=shown,
            remedy=f"`pip install {package}`, or name another driver in MLFLOW_TRACKING_URI",
        ) from None


def _check_database(uri: str, shown: str) -> None:
    import sqlalchemy
    from mlflow.store.db.utils import create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(uri)
    try:
        if engine.url.get_backend_name() == "sqlite":
            _check_folder(engine.url, shown)
        else:
            _check_port(engine.url, shown)
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _check_folder(url: URL, shown: str) -> None:
    if not url.database or url.database.startswith((":", "file:")):
        return
    folder = Path(url.database).absolute().parent
    if not folder.is_dir():
        raise RegistryError(
            f"there is no folder {folder} to hold this database",
            where=shown,
            remedy="make the folder, or mend MLFLOW_TRACKING_URI",
        )


def _check_port(url: URL, shown: str) -> None:
    if not url.host:  # a socket in the file system, or hosts that only the driver reads
        return
    address = (url.host, url.port or _PORTS[url.get_backend_name()])
    try:
        socket.create_connection(address, timeout=_PATIENCE_S).close()
    except OSError as error:
        raise RegistryUnreachableError(
            f"no database listens on {address[0]}:{address[1]} ({error.strerror or error})",
            where=shown,
            remedy="see that the database runs and that MLFLOW_TRACKING_URI is right",
        ) from None
