"""gRPC's own server on uvloop: it does what the request asks and nothing else."""

from __future__ import annotations

import sys
from typing import Any

import grpc
import numpy as np
import uvloop
from forest_model import NAME, open_forest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

STRING, BYTES, INT64, MESSAGE = 9, 12, 3, 11
TENSOR = {"name": (1, STRING), "datatype": (2, STRING), "shape": (3, INT64)}


def messages() -> tuple[Any, Any]:
    """Of the protocol's messages the fields that are used here."""
    file = FileDescriptorProto(name="bare.proto", package="inference", syntax="proto3")
    declare(file, "Tensor", TENSOR, repeated={"shape"})
    for name, raw in (("ModelInferRequest", 7), ("ModelInferResponse", 6)):
        tensors = ("inputs", 5) if raw == 7 else ("outputs", 5)
        fields = {
            "model_name": (1, STRING),
            tensors[0]: (tensors[1], MESSAGE),
            "raw_contents": (raw, BYTES),
        }
        declare(file, name, fields, repeated={tensors[0], "raw_contents"})
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    asked, told = (
        GetMessageClass(pool.FindMessageTypeByName(f"inference.ModelInfer{kind}"))
        for kind in ("Request", "Response")
    )
    return asked, told


def declare(
    file: Any, name: str, fields: dict[str, tuple[int, int]], *, repeated: set[str]
) -> None:
    message = file.message_type.add(name=name)
    for field, (number, kind) in fields.items():
        many = FieldDescriptorProto.LABEL_REPEATED if field in repeated else 1
        added = message.field.add(name=field, number=number, type=kind, label=many)
        if kind == MESSAGE:
            added.type_name = ".inference.Tensor"


async def main(port: str) -> None:
    predict = open_forest()
    asked, told = messages()

    async def infer(request: Any, context: Any) -> Any:
        del context
        tensor = request.inputs[0]
        rows = np.frombuffer(request.raw_contents[0], np.float32).reshape(tensor.shape)
        labels, probabilities = predict(rows)
        answer = told(model_name=NAME)
        answer.outputs.add(name="label", datatype="INT64", shape=[len(rows)])
        answer.outputs.add(name="probabilities", datatype="FP32", shape=[len(rows), 2])
        answer.raw_contents.extend([labels.tobytes(), probabilities.tobytes()])
        return answer

    method = grpc.unary_unary_rpc_method_handler(
        infer, request_deserializer=asked.FromString, response_serializer=told.SerializeToString
    )
    server = grpc.aio.server()
    service = "inference.GRPCInferenceService"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"ModelInfer": method}),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
