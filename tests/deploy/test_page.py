"""`docs/deploy-on-kubernetes.md` names what there is, and all of it."""

from __future__ import annotations

import re

from deploy.manifests import COMPONENTS, KUBERNETES, OUTPUTS, ROOT, of_kind, output
from deploy.test_schemas import VERSIONS

PAGE = (ROOT / "docs/deploy-on-kubernetes.md").read_text()


def test_every_folder_is_named() -> None:
    for name in (*OUTPUTS, *COMPONENTS):
        assert f"`{name}`" in PAGE, name


def test_every_path_leads_somewhere() -> None:
    paths = re.findall(r"`((?:base|config|components|overlays)/[\w./-]+)`", PAGE)
    assert len(paths) > 8
    for path in paths:
        assert (KUBERNETES / path).exists(), path
    for path in re.findall(r"deploy/kubernetes[\w./-]*", PAGE):
        assert (ROOT / path).exists(), path


def test_what_it_says_of_the_manifests_is_so() -> None:
    for version in VERSIONS:
        assert version in PAGE
    for name in ("staging", "production"):
        (gateway,) = of_kind(output(f"overlays/{name}"), "Gateway")
        assert f"`{gateway['metadata']['namespace']}`" in PAGE
    for route in of_kind(output("overlays/production"), "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for match in rule["matches"]:
                assert f"`{match['path']['value']}`" in PAGE
