"""Prometheus metrics: the one source of what /metrics serves and the reference page lists."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

Demands = Callable[[], Iterable[tuple[str, str, float, float]]]
"""Of each endpoint that scales: namespace, name, requests in flight, and how many of them a replica shall have."""


class DemandCollector(Collector):
    """Gauges of endpoints that scale. demands: read at each scrape."""

    def __init__(self) -> None:
        self.demands: Demands = tuple

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What prometheus_client calls at a scrape."""
        demand = GaugeMetricFamily(
            "berth_endpoint_demand",
            "Requests that run or wait, as they are weighed; absent while they are not known.",
            labels=["namespace", "name"],
        )
        target = GaugeMetricFamily(
            "berth_endpoint_target_per_replica", "Requests that a replica shall have.", labels=["namespace", "name"]
        )
        for namespace, name, in_flight, per_replica in self.demands():
            demand.add_metric([namespace, name], in_flight)
            target.add_metric([namespace, name], per_replica)
        yield demand
        yield target


class Metrics:
    """Metrics of one operator process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.reconcile_seconds = Histogram(
            "berth_reconcile_seconds", "Seconds of one reconcile pass.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30), registry=self.registry,
        )  # fmt: skip
        self.reconciles = Counter(
            "berth_reconciles",
            "Reconcile passes by result: ok, retry, error, fenced (the Lease was lost).",
            ["result"],
            registry=self.registry,
        )
        self.api_calls = Counter(
            "berth_api_calls", "Calls to the API server by verb, resource and HTTP status (0: no answer).",
            ["verb", "resource", "status"], registry=self.registry,
        )  # fmt: skip
        self.queue_depth = Gauge("berth_queue_depth", "Endpoints that wait for a pass.", registry=self.registry)
        self.leading = Gauge(
            "berth_leading", "1 while this process holds the Lease and may write.", registry=self.registry
        )
        self.endpoints = Gauge("berth_endpoints", "ModelEndpoints known.", registry=self.registry)
        self.resyncs = Counter(
            "berth_resyncs", "Comparisons with a fresh list by result: ok, error.", ["result"], registry=self.registry
        )

        self._demands = DemandCollector()
        self.registry.register(self._demands)

    def count_call(self, verb: str, resource: str, status: int) -> None:
        """One call to the API server."""
        self.api_calls.labels(verb, resource, str(status)).inc()

    def watch(
        self,
        queue_depth: Callable[[], int],
        endpoints: Callable[[], int],
        leading: Callable[[], bool],
        demands: Demands,
    ) -> None:
        """Read these when metrics are scraped."""
        self._demands.demands = demands
        self.queue_depth.set_function(queue_depth)
        self.endpoints.set_function(endpoints)
        self.leading.set_function(leading)
