"""A server of external metrics behind the API server, as an adapter to a monitoring system is one."""

import http.server
import ssl
import threading
from pathlib import Path
from typing import Any, Self

from berth.process import utc_now
from local import pki
from local.keda import NAMESPACE
from tests.apiserver.json_handler import json_handler


class MetricServer:
    """Tells `value` for every metric, an error while it is None. A context manager. directory: for its certificate."""

    def __init__(self, directory: Path) -> None:
        self.value: float | None = None
        authority = pki.Authority(directory / "metrics-ca")
        pair = authority.issue(directory / "metrics", "metrics", hosts=["localhost", f"keda.{NAMESPACE}.svc"])
        self.authority = pki.base64_of(authority.pair.certificate)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), json_handler(self._answer))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> dict[str, Any] | None:
        """What is at a path of the metrics API: what there is, or the value of one metric of a namespace."""
        path = path.partition("?")[0]
        group = "external.metrics.k8s.io/v1beta1"
        if path.rstrip("/").endswith(group):
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": []}
        if "/namespaces/" not in path or self.value is None:
            return None
        item = {"metricName": path.rsplit("/", 1)[1], "metricLabels": {}, "timestamp": utc_now()}
        items = [item | {"value": f"{round(self.value * 1000)}m"}]
        return {"kind": "ExternalMetricValueList", "apiVersion": group, "metadata": {}, "items": items}
