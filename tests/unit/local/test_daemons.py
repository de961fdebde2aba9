"""What decides whether a running daemon is kept, what progress looks like, and what a kubeconfig holds."""

from pathlib import Path

import pytest
import yaml

from local import pki, progress
from local.components import Site, commands
from local.daemons import wait_until
from local.errors import LocalError
from local.supervisor import Daemon

PROGRAMS = {
    name: Path("/cache/one") / name for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
}


def daemon(program: str = "/cache/kubernetes-v1-abc/etcd", flag: str = "--a=1", content: str = "x") -> Daemon:
    return Daemon([program, flag], lambda: True, {Path("/state/file"): content})


def test_a_daemon_is_kept_by_a_checkout_with_another_cache_directory() -> None:
    assert daemon().digest == daemon("/elsewhere/kubernetes-v1-abc/etcd").digest


@pytest.mark.parametrize(
    "changed",
    [daemon("/cache/kubernetes-v2-abc/etcd"), daemon(flag="--a=2"), daemon(content="y")],
    ids=["version", "flag", "file"],
)
def test_a_daemon_is_restarted_when_something_of_it_changed(changed: Daemon) -> None:
    assert changed.digest != daemon().digest
    assert changed.name == "etcd"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4s"), (9.96, "10.0s"), (12.4, "12s"), (59.6, "1m00s"), (271.0, "4m31s")]
)
def test_durations_are_read_by_people(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


def test_a_step_says_that_it_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="x"), progress.step("building", "about 1s"):
        raise ValueError("x")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("] building (about 1s) …")
    assert "… failed after 0." in second


def test_waiting_for_a_dead_process_ends_at_once_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("early\n" + "late\n" * 15)
    with pytest.raises(LocalError, match=r"waited for etcd, but the process ended") as raised:
        wait_until(lambda: False, "etcd", 60, alive=lambda: False, log=tmp_path / "log")
    assert "late" in str(raised.value)
    assert "early" not in str(raised.value)


def test_a_kubeconfig_needs_no_other_file_and_its_key_is_private(tmp_path: Path) -> None:
    authority = pki.Authority(tmp_path / "ca")
    pair = authority.issue(tmp_path / "admin", "admin", ["system:masters"])
    pki.write_private(tmp_path / "kubeconfig", pki.kubeconfig("https://a", authority.pair.certificate, pair))
    config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    assert config["users"][0]["user"].keys() == {"client-certificate-data", "client-key-data"}
    assert {path.name for path in tmp_path.iterdir() if path.stat().st_mode & 0o077} == {"ca.crt", "admin.crt"}


def test_the_api_server_serves_aggregated_apis_and_checks_rights(tmp_path: Path) -> None:
    flags = commands(Site(tmp_path, PROGRAMS, "127.0.0.1", 1, 2, 3))["kube-apiserver"]
    assert "--authorization-mode=Node,RBAC" in flags
    assert [flag for flag in flags if flag.startswith("--requestheader-")]
    assert f"--audit-log-path={tmp_path / 'audit.jsonl'}" in flags
