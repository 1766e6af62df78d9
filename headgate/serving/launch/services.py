"""Which BentoML services a bundle has: the entry, and one per model that wants a GPU.

``python -m headgate.serving.launch.services PATH`` prints them as JSON; loading a bundle means importing
BentoML and the user's code, which the launcher leaves to a child.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import yaml

from headgate.config import load_model_config
from headgate.errors import ServingError

__all__ = ["ServiceSpec", "dependencies", "release_of", "source_of"]

_LOAD_S = 60


class ServiceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A service that needs processes of its own."""

    name: str
    workers: int = 1
    gpus: int = 0
    """GPUs of each worker."""


def source_of(path: Path) -> Path:
    """The folder with ``service.py``: of a Bento its ``src``, of a bundle itself.

    Raises :class:`ServingError` when ``path`` is neither.
    """
    if (path / "bento.yaml").is_file() and (path / "src").is_dir():
        return path / "src"
    if (path / "service.py").is_file() or (path / "bentofile.yaml").is_file():
        return path
    raise ServingError(
        "neither a bundle (service.py) nor a Bento (bento.yaml, src)",
        where=str(path),
        remedy="give the folder of one",
    )


def release_of(path: Path) -> str:
    """Name and version of the Bento at ``path``; ``dev`` for a bundle.

    Raises :class:`ServingError` when its ``bento.yaml`` has none.
    """
    if not (path / "bento.yaml").is_file():
        return "dev"
    try:
        info = yaml.safe_load((path / "bento.yaml").read_bytes())
        return f"{info['name']}:{info['version']}"
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ServingError(
            f"says no name and version ({type(error).__name__})",
            where=str(path / "bento.yaml"),
            remedy="build the Bento again",
        ) from None


def dependencies(path: Path, env: Mapping[str, str]) -> tuple[ServiceSpec, ...]:
    """The services beside the entry of the bundle or Bento at ``path``.

    Only a model whose ``resources.gpu`` is above 0 has one; without such a model nothing is
    loaded. Raises :class:`ServingError` when loading fails.
    """
    source = source_of(path)
    models = [load_model_config(file) for file in sorted(source.glob("models/*/model.toml"))]
    if not any(model.resources.gpu for model in models):
        return ()
    try:
        child = subprocess.run(
            [sys.executable, "-m", __spec__.name, str(path)],
            cwd=source,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=_LOAD_S,
            check=True,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise ServingError(
            f"cannot load the services: {error}", where=str(path), remedy="see the lines above"
        ) from None
    # The last line: the user's code may print while it is imported.
    return msgspec.json.decode(child.stdout.splitlines()[-1], type=tuple[ServiceSpec, ...])


def _load(path: str) -> tuple[ServiceSpec, ...]:
    from _bentoml_impl.loader import load

    entry = load(path, standalone_load=True)
    specs = []
    for service in entry.all_services().values():
        if service.name == entry.name:
            continue
        workers = service.config.get("workers", 1)
        specs.append(
            ServiceSpec(
                name=service.name,
                workers=workers if isinstance(workers, int) else 1,
                gpus=math.ceil(float((service.config.get("resources") or {}).get("gpu", 0))),
            )
        )
    return tuple(specs)


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(_load(sys.argv[1])).decode() + "\n")
