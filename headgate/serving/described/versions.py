"""The paths of a model that name its version."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from headgate.serving.described.parts import Paths
    from headgate.serving.described.subject import Subject

__all__ = ["of_version"]


def of_version(model: Subject, paths: Paths) -> Paths:
    """Of ``paths`` those that may name the model's version, as they read then."""
    name, version = quote(model.name), quote(model.version)
    places = {
        f"/v1/models/{name}": f"/versions/{version}",
        f"/v2/models/{name}": f"/versions/{version}",
        f"/ws/{name}": f"/versions/{version}",
        f"/predictions/{name}": f"/{version}",
        f"/models/{name}": f"/{version}",
    }
    return {
        f"{begin}{place}{path.removeprefix(begin)}": {
            method: {
                **operation,
                "operationId": f"{operation['operationId']}__version",
                "summary": f"{operation['summary']} Version {model.version} and no other.",
            }
            for method, operation in item.items()
        }
        for path, item in paths.items()
        for begin, place in places.items()
        if path.startswith(begin)
    }
