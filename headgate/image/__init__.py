"""Bento → container image, built and tried by a program that people have: docker, podman or buildah."""

from __future__ import annotations

from headgate.image.context import image_labels, stage
from headgate.image.engine import Container, Engine, ImageInfo, Layer, find_engine

__all__ = [
    "Container",
    "Engine",
    "ImageInfo",
    "Layer",
    "find_engine",
    "image_labels",
    "stage",
]
