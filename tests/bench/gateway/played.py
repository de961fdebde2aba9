"""Plays the API server of a cluster with endpoints, for one gateway: `… played ADDRESS PORT COUNT NAMESPACE POD…`.

Lists and watches of ModelEndpoints, of EndpointSlices with the given pods (HOST:PORT, all of one port) and of the
Secrets with keys of the gateway; a watch is told nothing but bookmarks. The environment's BENCH_KEY is the key.
Prints `playing` once it listens.
"""

import asyncio
import base64
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from aiohttp import web

Object = dict[str, Any]

CREATED = "2026-01-02T03:04:05Z"
VERSION = "1000"
TEAM = "bench"
BOOKMARK_SECONDS = 20.0
OWNER = "bench"


def name_of(number: int) -> str:
    """Name of an endpoint, which is also that of its model."""
    return f"model-{number:04d}"


def endpoint(number: int) -> Object:
    """One that serves."""
    name = name_of(number)
    return {
        "apiVersion": "berth.dev/v1alpha1",
        "kind": "ModelEndpoint",
        "metadata": _meta(name, TEAM) | {"generation": 1},
        "spec": {
            "model": {"source": f"pvc://models/{name}"},
            "resources": {"limits": {"nvidia.com/gpu": 1}},
            "scaling": {"min": 1, "max": 3},
        },
        "status": {
            "observedGeneration": 1,
            "url": f"http://{name}.{TEAM}.svc/v1",
            "replicas": 3,
            "readyReplicas": 3,
            "scaling": {"desired": 3, "targetPerReplica": 22.0},
            "conditions": [_condition(kind) for kind in ("Accepted", "Ready", "Progressing")],
        },
    }


def _condition(kind: str) -> Object:
    return {
        "type": kind,
        "status": "True",
        "reason": "Ready",
        "message": "3 of 3 replicas are ready",
        "observedGeneration": 1,
        "lastTransitionTime": CREATED,
    }


def endpoint_slice(number: int, pods: Sequence[str]) -> Object:
    """The controller's slice of an endpoint's Service."""
    name = name_of(number)
    (port,) = {int(pod.rpartition(":")[2]) for pod in pods}
    labels = {
        "kubernetes.io/service-name": name,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "app.kubernetes.io/managed-by": "berth",
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": _meta(f"{name}-x7k2p", TEAM) | {"labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": port}],
        "endpoints": [
            {
                "addresses": [pod.rpartition(":")[0]],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "name": f"{name}-{place}", "namespace": TEAM, "uid": f"{name}-{place}"},
            }
            for place, pod in enumerate(pods)
        ],
    }


def secret(namespace: str, key: str) -> Object:
    """The key of a client that may use everything."""
    data = {"sha256": hashlib.sha256(key.encode()).hexdigest(), "owner": OWNER, "namespaces": TEAM}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _meta("bench", namespace) | {"labels": {"berth.dev/gateway-key": "true"}},
        "data": {name: base64.b64encode(value.encode()).decode() for name, value in data.items()},
    }


def _meta(name: str, namespace: str) -> Object:
    return {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-of-{name}",
        "resourceVersion": "1",
        "creationTimestamp": CREATED,
    }


def create_app(count: int, namespace: str, pods: Sequence[str], key: str) -> web.Application:
    """count: of endpoints.  namespace: the gateway's own."""
    resources = {
        "/apis/berth.dev/v1alpha1/modelendpoints": [endpoint(number) for number in range(count)],
        "/apis/discovery.k8s.io/v1/endpointslices": [endpoint_slice(number, pods) for number in range(count)],
        f"/api/v1/namespaces/{namespace}/secrets": [secret(namespace, key)],
    }

    async def answer(request: web.Request) -> web.StreamResponse:
        objects = resources[request.path]
        if "watch" not in request.query:
            return web.json_response({"kind": "List", "metadata": {"resourceVersion": VERSION}, "items": objects})
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        told = {key: objects[0][key] for key in ("apiVersion", "kind")} | {"metadata": {"resourceVersion": VERSION}}
        bookmark = json.dumps({"type": "BOOKMARK", "object": told}).encode() + b"\n"
        while True:
            await response.write(bookmark)
            await asyncio.sleep(BOOKMARK_SECONDS)

    app = web.Application()
    app.add_routes([web.get(path, answer) for path in resources])
    return app


async def play(address: str, port: int, count: int, namespace: str, pods: Sequence[str]) -> None:
    """For ever."""
    runner = web.AppRunner(create_app(count, namespace, pods, os.environ["BENCH_KEY"]), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    print("playing", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(play(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:]))
