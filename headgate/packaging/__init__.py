"""ModelRef → predictor artifact → bundle → Bento → Release."""

from headgate.packaging.bento import (
    BENTO_NAME,
    BUNDLE,
    bento_path,
    build_bento,
    list_bentos,
    read_release,
)
from headgate.packaging.bundle import assemble_bundle
from headgate.packaging.candidates import describe_choice
from headgate.packaging.package import cached_package, package, reference_of

__all__ = [
    "BENTO_NAME",
    "BUNDLE",
    "assemble_bundle",
    "bento_path",
    "build_bento",
    "cached_package",
    "describe_choice",
    "list_bentos",
    "package",
    "read_release",
    "reference_of",
]
