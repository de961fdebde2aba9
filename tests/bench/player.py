"""Plays the kubelet: a pod of an endpoint runs and is ready as soon as it is seen. A process of its own.

`python -m tests.bench.player KUBECONFIG NAMESPACE`: one watch, one status write per pod, and the launcher's /progress
of all of them at one address of this machine. Prints `playing` once it does.
"""

import asyncio
import socket
import sys
from typing import Any

from aiohttp import web

from berth.api.names import LAUNCHER_PORT, SERVER_CONTAINER
from berth.kube.resources import PODS
from tests.bench.cluster import WRITES_AT_ONCE, Api, Mirror

Object = dict[str, Any]

STARTED = "2026-01-02T03:04:05Z"


def own_address() -> str:
    """An address of this machine that is not a loopback one, which Kubernetes takes for no pod. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.254", 9))
        return str(probe.getsockname()[0])


def running(pod: Object, address: str) -> Object:
    """Status of the pod once its server answers."""
    server = next(item for item in pod["spec"]["containers"] if item["name"] == SERVER_CONTAINER)
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": STARTED,
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": STARTED}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ],
        "containerStatuses": [
            {
                "name": SERVER_CONTAINER,
                "image": server["image"],
                "imageID": "",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": STARTED}},
            }
        ],
    }


async def progress(_: web.Request) -> web.Response:
    """What the launcher of a pod that serves says."""
    return web.json_response({"v": 1, "phase": "Serving", "seconds": 1.0, "engine": {"version": "0.32.0"}})


async def play(kubeconfig: str, namespace: str) -> None:
    """For ever."""
    address = own_address()
    pending: asyncio.Queue[Object] = asyncio.Queue()

    def on_pod(pod: Object) -> None:
        if pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]:
            pending.put_nowait(pod)

    async def start() -> None:
        while True:
            pod = await pending.get()
            status = {"status": running(pod, address)}
            await api.merge(PODS, pod["metadata"]["name"], status, "status")

    app = web.Application()
    app.add_routes([web.get("/progress", progress)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        # Several players give the same answer: it does not matter which of them is asked.
        await web.TCPSite(runner, address, LAUNCHER_PORT, reuse_port=True).start()
    except OSError as error:
        sys.exit(
            f"{address}:{LAUNCHER_PORT}, where launchers of played pods answer: {error.strerror}; stop what is there"
        )
    async with Api(kubeconfig, namespace) as api, Mirror(api, PODS, on_pod):
        print("playing", flush=True)
        await asyncio.gather(*(start() for _ in range(WRITES_AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(play(*sys.argv[1:3]))
