"""The messages of ``protos/`` as classes.

In a pool of their own: Triton's and MLServer's clients, and gRPC's health and reflection packages, bring
messages of the same names, and somebody's ``app.py`` may use those in this process.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from headgate.errors import InputError
from headgate.serving.grpc.schema import SCHEMA

__all__ = ["POOL", "message", "parse"]


def _load() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(SCHEMA).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL: Any = _load()
"""Every file of ``protos/``."""


def message(name: str) -> Any:
    """The class of a message, by its full name."""
    return GetMessageClass(POOL.FindMessageTypeByName(name))


def parse(kind: Any, content: bytes) -> Any:
    """The message of that class.

    Raises:
        InputError: it is none.
    """
    try:
        return kind.FromString(content)
    except DecodeError:
        raise InputError(
            f"{len(content)} bytes are no {kind.DESCRIPTOR.name}",
            where="message",
            remedy=f"send {kind.DESCRIPTOR.full_name}, whole and in UTF-8",
        ) from None
