"""Health checking, reflection, and the messages themselves: by gRPC's own clients."""

from __future__ import annotations

import threading
import warnings

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from serving.asgi import make_root
from serving.grpc_server import SERVICE, channel, grpc_server, row, unary
from serving.tiny import until

from headgate.serving.grpc import health
from headgate.serving.grpc.compile import compile_schema
from headgate.serving.grpc.messages import POOL
from headgate.serving.grpc.schema import SCHEMA

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tritonclient.grpc import model_config_pb2, service_pb2

SERVING, NOT_SERVING, UNKNOWN = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
    health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
)


@pytest.fixture
def served(tmp_path):
    with grpc_server(make_root(tmp_path)) as served:
        yield served


@pytest.fixture
def opened(served):
    with channel(served.address) as opened:
        yield opened


def check(opened, name=""):
    request = health_pb2.HealthCheckRequest(service=name)
    return health_pb2_grpc.HealthStub(opened).Check(request, timeout=5).status


def break_model(served, name):
    model = served.worker.models[name]
    served.run(lambda: setattr(model, "_mismatch", "it answers differently"))


def test_health_follows_readiness_of_the_server_and_of_each_model(served, opened):
    names = ("", SERVICE, "late-flights", "breast-cancer")
    assert [check(opened, name) for name in names] == [SERVING] * 4
    break_model(served, "late-flights")
    assert [check(opened, name) for name in names] == [
        NOT_SERVING,
        NOT_SERVING,
        NOT_SERVING,
        SERVING,
    ]
    assert not unary(opened, "ServerReady")(message_of("ServerReadyRequest")).ready
    assert unary(opened, "ServerLive")(message_of("ServerLiveRequest")).live
    ready = message_of("ModelReadyRequest")
    for name, expected in (("late-flights", False), ("breast-cancer", True)):
        ready.name = name
        assert unary(opened, "ModelReady")(ready).ready == expected


def message_of(name):
    return GetMessageClass(POOL.FindMessageTypeByName(f"inference.{name}"))()


def test_the_health_of_nobody_is_not_found(opened):
    with pytest.raises(grpc.RpcError) as caught:
        check(opened, "nobody")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert "known: " in caught.value.details()
    assert "late-flights" in caught.value.details()


def test_a_watcher_is_told_whenever_it_changes(served, opened, monkeypatch):
    monkeypatch.setattr(health, "_LOOK_S", 0.01)
    seen = {"late-flights": [], "nobody": []}
    calls = []

    def watch(name):
        calls.append(health_pb2_grpc.HealthStub(opened).Watch(request(name)))
        try:
            for answer in calls[-1]:
                seen[name].append(answer.status)
        except grpc.RpcError as error:
            seen[name].append(error.code())

    def request(name):
        return health_pb2.HealthCheckRequest(service=name)

    watchers = [threading.Thread(target=watch, args=[name]) for name in seen]
    for watcher in watchers:
        watcher.start()
    until(lambda: seen == {"late-flights": [SERVING], "nobody": [UNKNOWN]}, 10)
    break_model(served, "late-flights")
    until(lambda: seen["late-flights"] == [SERVING, NOT_SERVING], 10)
    served.run(lambda: served.server.stop(refusing=False, drain_s=0.1))
    for watcher in watchers:
        watcher.join(10)
    # A server that stops says so, and then that it is unavailable.
    assert seen["late-flights"][1:3] == [NOT_SERVING, NOT_SERVING]
    assert seen["late-flights"][-1] == grpc.StatusCode.UNAVAILABLE


def test_a_server_that_stops_is_not_healthy_before_it_sends_clients_away(served, opened):
    assert check(opened) == SERVING
    served.run(lambda: served.server.stop(refusing=False, drain_s=20))
    assert check(opened) == NOT_SERVING
    assert check(opened, "late-flights") == NOT_SERVING
    assert unary(opened, "ModelInfer")(row()).model_name == "late-flights"


@pytest.mark.parametrize("version", ["v1alpha", "v1"])
def test_a_client_that_knows_nothing_asks_and_then_predicts(opened, monkeypatch, version):
    """As grpcurl does: by reflection alone."""
    from google.protobuf.descriptor_pool import DescriptorPool

    if version == "v1":
        # The generated client knows the older name of the same service only.
        stub = reflection_client(opened, "grpc.reflection.v1")
        monkeypatch.setattr(
            "grpc_reflection.v1alpha.reflection_pb2_grpc.ServerReflectionStub", lambda _: stub
        )
    database = ProtoReflectionDescriptorDatabase(opened)
    services = set(database.get_services())
    assert services == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    pool = DescriptorPool(database)
    method = pool.FindServiceByName(SERVICE).FindMethodByName("ModelInfer")
    asked, told = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    infer = opened.unary_unary(
        f"/{SERVICE}/{method.name}",
        request_serializer=asked.SerializeToString,
        response_deserializer=told.FromString,
    )
    answer = infer(asked.FromString(row().SerializeToString()))
    assert answer.model_name == "late-flights"
    for name in services - {SERVICE}:
        assert pool.FindServiceByName(name).methods


class reflection_client:  # noqa: N801 - in the place of a generated stub
    def __init__(self, opened, package):
        self.ServerReflectionInfo = opened.stream_stream(
            f"/{package}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )


def test_what_reflection_does_not_know_is_an_error_and_the_stream_goes_on(opened):
    ask = reflection_client(opened, "grpc.reflection.v1").ServerReflectionInfo
    request = reflection_pb2.ServerReflectionRequest
    extension = reflection_pb2.ExtensionRequest(containing_type="inference.x", extension_number=1)
    told = list(
        ask(
            iter(
                [
                    request(file_containing_symbol="no.such.Thing", host="here"),
                    request(file_by_filename="nothing.proto"),
                    request(file_containing_extension=extension),
                    request(all_extension_numbers_of_type="no.such.Thing"),
                    request(all_extension_numbers_of_type="inference.ModelInferRequest"),
                    request(),
                    request(file_by_filename="health.proto"),
                ]
            )
        )
    )
    codes = [each.error_response.error_code for each in told]
    assert codes == [5, 5, 5, 5, 0, 5, 0]
    assert told[0].valid_host == "here"
    assert told[0].original_request.file_containing_symbol == "no.such.Thing"
    extensions = told[4].all_extension_numbers_response
    assert extensions.base_type_name == "inference.ModelInferRequest"
    (content,) = told[6].file_descriptor_response.file_descriptor_proto
    assert FileDescriptorProto.FromString(content).package == "grpc.health.v1"


def test_the_schema_is_what_the_files_declare():
    """After a change of protos/: python -m headgate.serving.grpc.compile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = FileDescriptorSet.FromString(compile_schema())
    assert compiled == FileDescriptorSet.FromString(SCHEMA)


def described(kind):
    """What of a message is seen on the wire: by number, the name, the type and how many."""
    return {
        field.number: (
            field.name,
            field.type,
            field.is_repeated,
            field.message_type and field.message_type.full_name,
        )
        for field in kind.fields
    }


def nested(kind):
    yield kind
    for each in kind.nested_types:
        yield from nested(each)


OTHERS = {
    "inference": (service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR),
    "grpc.health.v1": (health_pb2.DESCRIPTOR,),
    "grpc.reflection.v1alpha": (reflection_pb2.DESCRIPTOR,),
}
FILES = FileDescriptorSet.FromString(SCHEMA).file


@pytest.mark.parametrize("package", [file.package for file in FILES])
def test_every_message_is_that_of_its_clients(package):
    """Field by field, against what Triton's client, and gRPC's own packages, bring."""
    theirs = {
        kind.full_name: kind
        for other in OTHERS[
            package.replace(".v1", ".v1alpha") if package.endswith("n.v1") else package
        ]
        for top in other.message_types_by_name.values()
        for kind in nested(top)
    }
    file = next(file for file in FILES if file.package == package)
    seen = 0
    for declared in file.message_type:
        ours = POOL.FindMessageTypeByName(f"{package}.{declared.name}")
        for kind in nested(ours):
            full_name = kind.full_name
            if package == "grpc.reflection.v1":
                full_name = full_name.replace(".v1.", ".v1alpha.")
            other = described(theirs[full_name])
            for number, field in described(kind).items():
                found = tuple(
                    part.replace("reflection.v1.", "reflection.v1alpha.")
                    if isinstance(part, str)
                    else part
                    for part in field
                )
                assert found == other[number], f"{kind.full_name}.{field[0]}"
                seen += 1
    assert seen


def test_every_method_is_that_of_its_clients():
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for method in POOL.FindServiceByName(SERVICE).methods:
        other = theirs.methods_by_name[method.name]
        assert method.input_type.full_name == other.input_type.full_name
        assert method.output_type.full_name == other.output_type.full_name
        assert (method.client_streaming, method.server_streaming) == (
            other.client_streaming,
            other.server_streaming,
        )
    ours = POOL.FindEnumTypeByName("inference.DataType").values_by_name
    others = model_config_pb2.DESCRIPTOR.enum_types_by_name["DataType"].values_by_name
    assert {name: ours[name].number for name in ours} == {
        name: others[name].number for name in others
    }


def test_clients_may_be_used_in_the_same_process():
    """Both bring messages of the same names."""
    from headgate.serving.grpc.messages import message

    ours, theirs = message("inference.ModelInferRequest"), service_pb2.ModelInferRequest
    assert ours is not theirs
    assert theirs.FromString(ours(model_name="m").SerializeToString()).model_name == "m"
