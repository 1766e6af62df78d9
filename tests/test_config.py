"""Settings: what is refused, and what the refusal says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headgate.config import load_config, load_model_config
from headgate.errors import ConfigError

PROFILE = "[gate.profiles.quick]\nrate = 50\n"
SLO = "[slo]\np95_ms = 5\nmin_rps = 1\n"


@pytest.fixture(autouse=True)
def no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADGATE_PORT", raising=False)
    monkeypatch.delenv("HEADGATE_GRPC_PORT", raising=False)


def refusal(root: Path, text: str) -> str:
    (root / "headgate.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(root)
    return str(caught.value)


def test_what_is_set_is_kept(tmp_path: Path) -> None:
    text = f'[server]\nhost = "::1"\nmax_body_mb = 3\n{PROFILE}'
    (tmp_path / "headgate.toml").write_text(text)
    config = load_config(tmp_path)
    assert (config.server.host, config.server.max_body_mb) == ("::1", 3)
    assert config.gate.profiles["quick"].rate == 50


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server]\nprot = 3000", ["server.prot: ", "3000", "did you mean port?", "host, port,"]),
        ("[sever]", ["sever: ", "did you mean server?", "server, gate, rollout, cost, store"]),
        ("[server]\nzzz = 1", ["server.zzz: ", "known: host"]),
        ('[server]\nport = "x"', ["server.port: ", "'x'", "expected int, got str"]),
        ("[server]\nport = 70000", ["server.port: ", "70000", "<= 65535"]),
        ("[server]\ngrpc_port = -1", ["server.grpc_port: ", "-1", ">= 0"]),
        ('[server]\ngrpc_port = "off"', ["server.grpc_port: ", "'off'"]),
        ("server = 3", ["server: 3", "expected table, got int"]),
        ("[gate.profiles.a]\nrate = 1\n[gate.profiles.b]\nrate = 0", ["gate.profiles.b.rate: 0"]),
        ('[gate.profiles."a b"]\nrat = 1', ['gate.profiles."a b".rat: ', "did you mean rate?"]),
        ("[gate.profiles]\na = 1", ["gate.profiles.a: 1", "expected table"]),
        (
            "[gate.profiles.a]\nrate = nan",
            ["gate.profiles.a.rate: nan is refused: it is no number — "],
        ),
        ('[gate]\nprofile = "' + "x" * 500 + '"\nprofiles = 3', ["gate.profiles: 3"]),
        ("[server", ["mend its TOML"]),
    ],
)
def test_a_refusal_names_key_value_and_remedy(tmp_path: Path, text: str, says: list[str]) -> None:
    found = refusal(tmp_path, text)
    assert found.startswith(f"{tmp_path / 'headgate.toml'}: ")
    for each in says:
        assert each in found
    assert "headgate.config" not in found
    assert "`" not in found


def test_a_refused_value_says_where_it_is_documented(tmp_path: Path) -> None:
    assert refusal(tmp_path, "[server]\nport = 0").endswith("documented in headgate/config.py")


@pytest.mark.parametrize("port", ["²", "0", "65536", "x", "-1", "9" * 5000])
def test_a_port_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    monkeypatch.setenv("HEADGATE_PORT", port)
    assert "HEADGATE_PORT: " in refusal(tmp_path, PROFILE)


@pytest.mark.parametrize("port", ["²", "65536", "x", "-1", "9" * 5000])
def test_a_grpc_port_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    monkeypatch.setenv("HEADGATE_GRPC_PORT", port)
    assert "HEADGATE_GRPC_PORT: " in refusal(tmp_path, PROFILE)


@pytest.mark.parametrize(
    ("server", "env", "port"),
    [
        ("", {}, 3001),
        ("port = 4000", {}, 4001),
        ("port = 4000\ngrpc_port = 5", {}, 5),
        ("grpc_port = 0", {}, None),
        ("", {"HEADGATE_PORT": "3100"}, 3101),
        ("grpc_port = 5", {"HEADGATE_PORT": "3100"}, 5),
        ("grpc_port = 5", {"HEADGATE_GRPC_PORT": "6"}, 6),
        ("", {"HEADGATE_GRPC_PORT": "0"}, None),
        ("grpc_port = 5", {"HEADGATE_GRPC_PORT": ""}, 5),
    ],
)
def test_the_grpc_port(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: str,
    env: dict[str, str],
    port: int | None,
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "headgate.toml").write_text(f"[server]\n{server}\n{PROFILE}")
    assert load_config(tmp_path).server.grpc == port


@pytest.mark.parametrize("server", ["port = 65535", "port = 3000\ngrpc_port = 3000"])
def test_two_ports_are_not_one(tmp_path: Path, server: str) -> None:
    says = refusal(tmp_path, f"[server]\n{server}\n{PROFILE}")
    assert says.startswith("server.grpc_port: ")
    for word in ("grpc_port", "HEADGATE_GRPC_PORT", "--grpc-port"):
        assert word in says


@pytest.mark.parametrize("name", ["digits", "flight-delay", "a.b_c D", "9", "x" * 100])
def test_names_of_models(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.toml"
    path.write_text(f'name = "{name}"\n{SLO}')
    assert load_model_config(path).name == name


@pytest.mark.parametrize("name", ["", "../../x", "a/b", ".a", "-a", " a", "a\n", "a'", "x" * 101])
def test_names_no_model_may_have(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.toml"
    path.write_text(f"name = {json.dumps(name)}\n{SLO}")
    with pytest.raises(ConfigError, match="a letter or digit first") as caught:
        load_model_config(path)
    assert f"{path}: name: " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "a"', "slo: missing"),
        ('name = "a"\n[slo]\np95_ms = 5', "slo.min_rps: missing"),
        (
            f'name = "a"\n{SLO}[packaging]\nengine = "x"',
            "packaging.engine: 'x' is refused: expected one of: auto, onnx, native",
        ),
    ],
)
def test_a_model_without_its_promises(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "model.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_model_config(path)
