"""The local cluster itself: what Berth and its users rely on, shown with small pods; and every daemon killed once.

In: the cluster brought up by `local.node`, a namespace `web` with a server, its Service and a client. Out: the cluster
as it was. Not mocked: anything.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from local import images, node, pki, supervisor, tools, volumes
from local.daemons import wait_until
from local.errors import LocalError
from local.kubectl import Kubectl, Object, condition

PORT = 8000
SECONDS = 60.0
FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
SERVE = f"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello from the pod")
http.server.ThreadingHTTPServer(("", {PORT}), Handler).serve_forever()
"""
DAEMONS = (
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
)


@pytest.fixture(scope="module")
def cluster() -> Kubectl:
    node.up()
    return Kubectl(node.KUBECONFIG)


@pytest.fixture(scope="module")
def image(cluster: Kubectl) -> str:
    return images.ensure(["base"])["base"]


@pytest.fixture
def namespace(cluster: Kubectl) -> Iterator[str]:
    yield from _namespace(cluster)


@pytest.fixture(scope="module")
def web(cluster: Kubectl, image: str) -> Iterator[str]:
    """A namespace with the pods `server` and `client` and the Service `hello`."""
    with contextmanager(_namespace)(cluster) as name:
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "hello", "namespace": name},
            "spec": {"type": "NodePort", "selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": PORT}]},
        }
        server = pod("server", name, image, SERVE)
        server["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"port": PORT}, "periodSeconds": 1}
        cluster.apply([server, service, pod("client", name, image, "import signal; signal.pause()")])
        cluster.run("wait", "-n", name, "--for=condition=Ready", "--timeout=60s", "pod/server", "pod/client")
        wait_until(partial(_answers, f"http://{service_address(cluster, name)}"), "the Service to answer", SECONDS)
        yield name


def _namespace(cluster: Kubectl) -> Iterator[str]:
    name = f"cluster-{uuid.uuid4().hex[:6]}"
    cluster.run("create", "namespace", name)
    try:
        yield name
    finally:
        cluster.run("delete", "namespace", name, "--timeout=60s")


def pod(name: str, namespace: str, image: str, script: str, **container: Any) -> Object:
    main = {"name": "main", "image": image, "command": ["python3", "-u", "-c", script], **container}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [main]},
    }


def service_address(cluster: Kubectl, namespace: str) -> str:
    return str(cluster.get("service", "hello", "-n", namespace)["spec"]["clusterIP"])


def container_id(cluster: Kubectl, namespace: str) -> str:
    return str(cluster.get("pod", "server", "-n", namespace)["status"]["containerStatuses"][0]["containerID"])


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).text == "hello from the pod"
    except httpx.TransportError:
        return False


def fetch(cluster: Kubectl, namespace: str, name: str, url: str) -> str:
    return cluster.run("exec", "-n", namespace, name, "--", "python3", "-c", FETCH, url).strip()


def fetched(cluster: Kubectl, namespace: str) -> bool:
    """Whether a pod gets the web server's answer by the name of its Service."""
    with contextlib.suppress(LocalError):
        return fetch(cluster, namespace, "client", "http://hello") == "hello from the pod"
    return False


def test_a_second_up_starts_nothing(cluster: Kubectl) -> None:
    running = supervisor.survey()
    assert running.keys() == set(DAEMONS)
    node.up()
    assert supervisor.survey() == running


def test_a_pod_reaches_a_service_by_name(cluster: Kubectl, web: str) -> None:
    for url in ("http://hello", f"http://hello.{web}.svc.cluster.local"):
        assert fetch(cluster, web, "client", url) == "hello from the pod"


def test_a_pod_reaches_itself_through_its_service(cluster: Kubectl, web: str) -> None:
    assert fetch(cluster, web, "server", "http://hello") == "hello from the pod"


def test_a_name_outside_the_cluster_is_refused_at_once(cluster: Kubectl, web: str) -> None:
    script = "import socket\ntry: socket.getaddrinfo('example.com', 80)\nexcept socket.gaierror as error: print(error)"
    started = time.monotonic()
    said = cluster.run("exec", "-n", web, "client", "--", "python3", "-c", script)
    assert "Name or service not known" in said
    assert time.monotonic() - started < 5


def test_the_host_reaches_cluster_ip_and_node_port(cluster: Kubectl, web: str) -> None:
    spec = cluster.get("service", "hello", "-n", web)["spec"]
    assert _answers(f"http://{spec['clusterIP']}")
    assert _answers(f"http://{_node_address(cluster)}:{spec['ports'][0]['nodePort']}")


def _node_address(cluster: Kubectl) -> str:
    addresses = cluster.get("node", node.NODE_NAME)["status"]["addresses"]
    return str(next(item["address"] for item in addresses if item["type"] == "InternalIP"))


def test_a_command_of_the_host_resolves_names_of_the_cluster_and_the_host_itself_does_not(web: str) -> None:
    before = Path("/etc/resolv.conf").read_bytes()
    assert node.run_with_cluster_dns(["python3", "-c", FETCH, f"http://hello.{web}.svc.cluster.local"]) == 0
    assert Path("/etc/resolv.conf").read_bytes() == before
    assert node.run_with_cluster_dns(["sh", "-c", "exit 3"]) == 3


def test_logs_and_port_forward(cluster: Kubectl, web: str) -> None:
    fetch(cluster, web, "client", "http://hello/find-me")
    assert "GET /find-me" in cluster.run("logs", "-n", web, "server")
    command = [
        str(tools.ensure(["kubectl"])["kubectl"]), f"--kubeconfig={cluster.kubeconfig}",
        "port-forward", "-n", web, "pod/server", f":{PORT}",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            local_address = forward.stdout.readline().split()[2]
            assert _answers(f"http://{local_address}")
        finally:
            forward.terminate()


def test_a_gpu_more_than_the_node_has_is_refused(cluster: Kubectl, namespace: str, image: str) -> None:
    limits = {"nvidia.com/gpu": str(node.GPUS + 1)}
    cluster.apply([pod("greedy", namespace, image, "", resources={"limits": limits})])

    def refused() -> bool:
        scheduled = condition(cluster.get("pod", "greedy", "-n", namespace), "PodScheduled")
        return "Insufficient nvidia.com/gpu" in scheduled.get("message", "")

    wait_until(refused, "the scheduler to refuse the pod", SECONDS)


def test_a_directory_of_the_host_is_a_volume(cluster: Kubectl, namespace: str, image: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host")
    cluster.claim(volumes.publish(namespace, "data", {"inside": tmp_path}))
    script = (
        "print(open('/data/inside/file').read())\n"
        "try: open('/data/inside/new', 'w')\n"
        "except OSError as error: print(error.strerror)"
    )
    reader = pod("reader", namespace, image, script, volumeMounts=[{"name": "data", "mountPath": "/data"}])
    claim = {"claimName": "data", "readOnly": True}
    reader["spec"] |= {"restartPolicy": "Never", "volumes": [{"name": "data", "persistentVolumeClaim": claim}]}
    cluster.apply([reader])
    cluster.run("wait", "-n", namespace, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", "pod/reader")
    assert cluster.run("logs", "-n", namespace, "reader").splitlines() == ["from the host", "Read-only file system"]
    cluster.run("delete", "pod", "reader", "-n", namespace)
    cluster.run("delete", "pvc", "data", "-n", namespace)
    cluster.run("delete", "pv", f"{namespace}-data")


def test_a_pod_reaches_the_api_server_with_its_service_account(cluster: Kubectl, web: str) -> None:
    script = (
        "import os, ssl, urllib.error, urllib.request\n"
        "account = '/var/run/secrets/kubernetes.io/serviceaccount/'\n"
        "request = urllib.request.Request('https://kubernetes.default.svc/api/v1/secrets')\n"
        "request.add_header('Authorization', 'Bearer ' + open(account + 'token').read())\n"
        "context = ssl.create_default_context(cafile=account + 'ca.crt')\n"
        "try: urllib.request.urlopen(request, context=context, timeout=5)\n"
        "except urllib.error.HTTPError as error: print(error.code, error.read().decode())"
    )
    said = cluster.run("exec", "-n", web, "client", "--", "python3", "-c", script)
    assert said.startswith("403")
    assert f"system:serviceaccount:{web}:default" in said


def test_an_aggregated_api_is_served_from_a_pod(cluster: Kubectl, namespace: str, image: str, tmp_path: Path) -> None:
    group = f"{namespace}.test"
    authority = pki.Authority(tmp_path / "ca")
    pair = authority.issue(tmp_path / "server", "server", hosts=[f"extension.{namespace}.svc"])
    resources = {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/v1",
        "resources": [{"name": "answers", "kind": "Answer", "namespaced": False, "verbs": ["get"]}],
    }
    script = f"""
import http.server, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write({json.dumps(json.dumps(resources))}.encode())
server = http.server.ThreadingHTTPServer(("", {PORT}), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/pki/server.crt", "/pki/server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
    server = pod("extension", namespace, image, script, volumeMounts=[{"name": "pki", "mountPath": "/pki"}])
    server["spec"]["volumes"] = [{"name": "pki", "secret": {"secretName": "pki"}}]
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "pki", "namespace": namespace},
        "stringData": {path.name: path.read_text() for path in (pair.certificate, pair.key)},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "extension", "namespace": namespace},
        "spec": {"selector": {"app": "extension"}, "ports": [{"port": 443, "targetPort": PORT}]},
    }
    api_service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1.{group}"},
        "spec": {
            "group": group,
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": "extension", "namespace": namespace},
            "caBundle": pki.base64_of(authority.pair.certificate),
        },
    }
    cluster.apply([secret, service, server, api_service])
    try:
        cluster.run("wait", "--for=condition=Available", "--timeout=60s", f"apiservice/v1.{group}")
        assert json.loads(cluster.run("get", "--raw", f"/apis/{group}/v1")) == resources
    finally:
        # While an API is announced and gone, no namespace can be deleted.
        cluster.run("delete", "apiservice", f"v1.{group}")


@pytest.mark.parametrize("name", DAEMONS)
def test_up_mends_a_killed_daemon_and_pods_do_not_notice(cluster: Kubectl, web: str, name: str) -> None:
    before = container_id(cluster, web)
    others = {other: running for other, running in supervisor.survey().items() if other != name}
    killed = supervisor.survey()[name]
    os.kill(killed.pid, signal.SIGKILL)
    wait_until(lambda: killed not in supervisor.survey().values(), f"the end of {name}", SECONDS)
    node.up()
    now = supervisor.survey()
    assert now[name].pid != killed.pid
    assert {other: now[other] for other in others} == others
    assert cluster.get("node", node.NODE_NAME)["status"]["allocatable"]["nvidia.com/gpu"] == str(node.GPUS)
    # A kubelet that starts takes a pod for not ready until its first probe, and may do so after the Service answered.
    wait_until(partial(_answers, f"http://{service_address(cluster, web)}"), "the Service to answer again", SECONDS)
    wait_until(partial(fetched, cluster, web), "the Service to answer a pod", SECONDS)
    assert container_id(cluster, web) == before


def test_up_restarts_a_daemon_that_hangs(cluster: Kubectl, web: str) -> None:
    hung = supervisor.survey()["coredns"]
    os.kill(hung.pid, signal.SIGSTOP)
    node.up()
    assert supervisor.survey()["coredns"].pid != hung.pid
    wait_until(partial(fetched, cluster, web), "the Service to answer a pod", SECONDS)


def test_up_puts_removed_service_rules_back(cluster: Kubectl, web: str) -> None:
    address = service_address(cluster, web)
    subprocess.run(["nft", "delete", "table", "ip", "kube-proxy"], check=True)
    node.up()
    wait_until(lambda: _answers(f"http://{address}"), "the Service to answer again", SECONDS)


def test_a_deleted_namespace_goes_away_with_its_pods(cluster: Kubectl, image: str) -> None:
    name = f"cluster-{uuid.uuid4().hex[:6]}"
    cluster.run("create", "namespace", name)
    cluster.apply([pod("sleeper", name, image, "import signal; signal.pause()")])
    cluster.run("wait", "-n", name, "--for=condition=Ready", "--timeout=60s", "pod/sleeper")
    cluster.run("delete", "namespace", name, "--timeout=60s")
    assert cluster.find("namespace", name) is None
