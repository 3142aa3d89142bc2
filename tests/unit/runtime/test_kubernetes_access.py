"""Ways into a cluster: each that is not there is refused with the way out, and no token shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from inferry.core.errors import ConfigError
from inferry.core.kubernetes_settings import KubernetesSettings
from inferry.runtime.kubernetes.access import find_access, read_kubeconfig

SETTINGS = KubernetesSettings(kind="kubernetes")


def kubeconfig(folder: Path, user: dict[str, Any], server: str = "http://127.0.0.1:1") -> Path:
    path = folder / "config"
    tree = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "llm"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_token_file_is_read_anew(tmp_path: Path) -> None:
    """Relative to the kubeconfig, as kubectl has it; the namespace is the context's unless the file says another."""
    (tmp_path / "token").write_text("first\n")
    access = read_kubeconfig(kubeconfig(tmp_path, {"tokenFile": "token"}), SETTINGS)
    assert (access.token(), access.namespace) == ("first", "llm")
    (tmp_path / "token").write_text("second\n")
    assert access.token() == "second"
    assert "second" not in repr(access)
    named = KubernetesSettings(kind="kubernetes", namespace="other")
    assert read_kubeconfig(kubeconfig(tmp_path, {"token": "x"}), named).namespace == "other"


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({"exec": {"command": "aws"}}, "kubectl create token"),
        ({"username": "me", "password": "x"}, "a user name and password"),
    ],
)
def test_proofs_that_are_not_supported_are_named(tmp_path: Path, user: dict[str, Any], words: str) -> None:
    """With what to use instead."""
    with pytest.raises(ConfigError, match=words):
        read_kubeconfig(kubeconfig(tmp_path, user), SETTINGS)


def test_missing_things_are_named(tmp_path: Path) -> None:
    """No file, an unknown context, broken certificates, several files: each says which."""
    with pytest.raises(ConfigError, match=r"runtime\.kubeconfig or KUBECONFIG"):
        find_access(SETTINGS, {"HOME": str(tmp_path)})
    with pytest.raises(ConfigError, match="not merged"):
        find_access(SETTINGS, {"KUBECONFIG": "a:b"})
    path = kubeconfig(tmp_path, {"token": "x"})
    with pytest.raises(ConfigError, match=r"no context 'there' \(it has: here\)"):
        read_kubeconfig(path, KubernetesSettings(kind="kubernetes", context="there"))
    broken = {"client-certificate-data": "!", "client-key-data": "!"}
    with pytest.raises(ConfigError, match="certificate or key"):
        read_kubeconfig(kubeconfig(tmp_path, broken, "https://127.0.0.1:1"), SETTINGS)


def test_inside_a_pod_the_service_account_wins(tmp_path: Path) -> None:
    """A pod's certificate that can't be read is told, with its path."""
    (tmp_path / "token").write_text("t")
    with pytest.raises(ConfigError, match=r"ca\.crt"):
        find_access(SETTINGS, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)
