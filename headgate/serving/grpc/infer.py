"""Predictions: ``ModelInfer`` and ``ModelStreamInfer``."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from headgate.errors import HeadgateError, UnknownModelError
from headgate.serving.batcher import cause_of
from headgate.serving.grpc.codec import Codec
from headgate.serving.grpc.headers import Headers
from headgate.serving.grpc.messages import message, parse
from headgate.serving.grpc.status import text_of
from headgate.serving.http import meaning, names
from headgate.serving.launch.turns import TURNS
from headgate.serving.metrics import ServingMetrics, SurfaceMetrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.serving.grpc.call import Call
    from headgate.serving.grpc.streaming import StreamingCall
    from headgate.serving.model import Model

__all__ = ["Inference"]

logger = logging.getLogger("bentoml.headgate")

_Request: Any = message("inference.ModelInferRequest")
_Streamed: Any = message("inference.ModelStreamInferResponse")
_Response: Any = message("inference.ModelInferResponse")
_AT_A_TIME = 64
"""Messages of one stream that are worked on at a time."""
_FINAL = _Response()
_FINAL.parameters["triton_final_response"].bool_param = True
_IS_FINAL: bytes = _FINAL.SerializeToString()
"""What Triton adds to the last answer to a message of a stream, and here every one is."""


class Inference:
    """Every model of a worker."""

    def __init__(self, models: Mapping[str, Model], metrics: ServingMetrics) -> None:
        """``models`` by name."""
        self._of = {name: _OfModel(model, metrics) for name, model in models.items()}
        self._of_bytes = {name.encode(): each for name, each in self._of.items()}
        self._others = SurfaceMetrics(metrics, "grpc", "")

    async def one(self, call: Call, content: bytes) -> bytes:
        """``ModelInfer``."""
        # Before it is parsed, which under overload would take most of the time.
        likely = self._of_bytes.get(_first_field(content))
        if likely is not None:
            likely.foresee(call)
        request, model = self._read(content)
        call.headers = model.headers
        return await model.answer(
            request, call.began, min(call.deadline, model.until(call.arrived))
        )

    async def many(self, call: StreamingCall) -> None:
        """``ModelStreamInfer``: answers in the order of the requests."""
        loop = call.connection.loop
        queue: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(_AT_A_TIME)

        async def read() -> None:
            while (content := await call.next()) is not None:
                await queue.put(loop.create_task(self._one_of_many(call, content)))
            await queue.put(None)

        reader = loop.create_task(read())
        task: asyncio.Task[bytes] | None = None
        try:
            while (task := await queue.get()) is not None:
                await call.send(await task)
        finally:
            reader.cancel()
            while not queue.empty():
                if (left := queue.get_nowait()) is not None:
                    left.cancel()

    def refused(self, error: HeadgateError) -> None:
        """Count a request that names no model of ours."""
        self._others.failed(meaning(error)[1], 0.0)

    async def _one_of_many(self, call: StreamingCall, content: bytes) -> bytes:
        began = monotonic()
        request: Any = None
        told = _Streamed()
        try:
            request, model = self._read(content)
            answer = await model.answer(request, began, min(call.deadline, model.until(began)))
            told.infer_response.MergeFromString(answer)
            told.infer_response.MergeFromString(_IS_FINAL)
        except HeadgateError as error:
            told.error_message = text_of(error)
            if request is not None:
                told.infer_response.id = request.id
        streamed: bytes = told.SerializeToString()
        return streamed

    def _read(self, content: bytes) -> tuple[Any, _OfModel]:
        try:
            request = parse(_Request, content)
            return request, self._find(request.model_name, request.model_version)
        except HeadgateError as error:
            self.refused(error)
            raise

    def _find(self, name: str, version: str) -> _OfModel:
        found = self._of.get(name)
        if found is None:
            raise UnknownModelError(
                f"no model {name[:60]!r}",
                where="model_name",
                remedy=f"served here: {', '.join(self._of)}",
            )
        if version and version != found.version:
            raise UnknownModelError(
                f"no version {version[:60]!r} of {name}",
                where="model_version",
                remedy=f"served here: version {found.version}; or leave it empty",
            )
        return found


class _OfModel:
    """One model: reads, validates, predicts, answers, counts."""

    def __init__(self, model: Model, metrics: ServingMetrics) -> None:
        self.version = model.version
        self.headers = Headers(*names(model.version, model.release))
        self._model = model
        self._codec = Codec(model)
        self._counts = SurfaceMetrics(metrics, "grpc", model.name)

    def until(self, arrived: float) -> float:
        """The deadline of a request that names none."""
        return arrived + self._model.deadline_s

    def foresee(self, call: Call) -> None:
        """Raise the error of a request that would be refused whatever it holds."""
        batcher = self._model.batcher
        if not batcher.busy:
            return
        deadline = min(call.deadline, self.until(call.arrived))
        refusal = batcher.foresee(deadline, call.began)
        if refusal is not None:
            call.headers = self.headers
            self._model.counts.shed(cause_of(refusal))
            self._counts.failed(meaning(refusal)[1], monotonic() - call.began)
            raise refusal

    async def answer(self, request: Any, began: float, deadline: float) -> bytes:
        """The answer to a request, serialized; times are of the monotonic clock."""
        model = self._model
        try:
            asked = self._codec.decode(request)
            TURNS.active = monotonic()
            answer = await model.batcher.submit(asked.batch, asked.rows, deadline=deadline)
            mark = monotonic()
            content = self._codec.encode(answer.outputs, asked)
        except HeadgateError as error:
            outcome = meaning(error)[1]
            if outcome == "engine":
                logger.error("%s: %s", model.name, error)  # noqa: TRY400 - it is not ours
            self._counts.failed(outcome, monotonic() - began)
            raise
        except asyncio.CancelledError:
            self._counts.failed("gone", monotonic() - began)
            raise
        except Exception:
            self._counts.failed("internal", monotonic() - began)
            raise
        TURNS.active = now = monotonic()
        model.counts.encode.observe(now - mark)
        model.counts.queue.observe(answer.queue_s)
        model.counts.inference.observe(answer.inference_s)
        self._counts.answered(now - began)
        return content


def _first_field(content: bytes) -> bytes:
    """What is likely the model's name: the field 1, if it comes first, as it does."""
    return content[2 : 2 + content[1]] if content[:1] == b"\n" and len(content) > 1 else b""
