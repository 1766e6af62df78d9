"""gRPC's reflection, by which tools such as grpcurl find out what there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from headgate.serving.grpc.messages import POOL, message, parse
from headgate.serving.grpc.status import Status

if TYPE_CHECKING:
    from headgate.serving.grpc.call import Streaming
    from headgate.serving.grpc.streaming import StreamingCall

__all__ = ["VERSIONS", "reflection"]

VERSIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
"""Which say the same."""


def reflection(package: str, services: Sequence[str]) -> Streaming:
    """``ServerReflectionInfo`` of one version."""
    asked = message(f"{package}.ServerReflectionRequest")
    told = message(f"{package}.ServerReflectionResponse")

    async def streaming(call: StreamingCall) -> None:
        while (content := await call.next()) is not None:
            request = parse(asked, content)
            response = told(valid_host=request.host, original_request=request)
            _answer(request, response, services)
            await call.send(response.SerializeToString())

    return streaming


def _answer(request: Any, response: Any, services: Sequence[str]) -> None:
    kind = request.WhichOneof("message_request")
    wanted = getattr(request, kind) if kind else None
    if kind == "list_services":
        for name in services:
            response.list_services_response.service.add(name=name)
        return
    try:
        if kind == "all_extension_numbers_of_type":
            name = POOL.FindMessageTypeByName(wanted).full_name
            response.all_extension_numbers_response.base_type_name = name
            return
        file = _FINDERS[kind](wanted)
    except KeyError:
        response.error_response.error_code = Status.NOT_FOUND
        response.error_response.error_message = f"{str(wanted)[:200]!r} is unknown"
    else:
        # None of ours imports another.
        proto = FileDescriptorProto()
        file.CopyToProto(proto)
        response.file_descriptor_response.file_descriptor_proto.append(proto.SerializeToString())


# No message of ours is extended.
_FINDERS: dict[str | None, Callable[[Any], Any]] = {
    "file_by_filename": POOL.FindFileByName,
    "file_containing_symbol": POOL.FindFileContainingSymbol,
}
