"""What was measured at one size, and the figures that follow from it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.scenario import Phase

WRITE_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})
READ_VERBS = frozenset({"get", "list"})
# The election, and what a start asks about its permissions: they do not grow with the endpoints.
ASIDE = frozenset({"leases", "selfsubjectaccessreviews"})


@dataclass(frozen=True)
class Result:
    """One size. raw: what tests.bench.raw told, before and after; empty where it was not run.  kubernetes: version."""

    count: int
    phases: dict[str, Phase]
    raw: Sequence[dict[str, float]]
    idle_seconds: float
    kubernetes: str

    def calls(self, phase: str, verbs: frozenset[str] = WRITE_VERBS) -> int:
        """Calls of these verbs in a phase, apart from ASIDE."""
        found = self.phases[phase].calls.items()
        return sum(count for (verb, resource), count in found if verb in verbs and resource not in ASIDE)

    def raw_seconds(self, until: str) -> float | None:
        """Seconds of the raw writes until the last child ("children") or status ("status"): mean of the runs."""
        return self._told("children_seconds" if until == "children" else "seconds")

    def _told(self, name: str) -> float | None:
        return sum(told[name] for told in self.raw) / len(self.raw) if self.raw else None

    def ratio(self, until: str) -> float | None:
        """Operator's writes per second as a part of the raw ones. Both make the endpoints too, and write the same."""
        raw = self.raw_seconds(until)
        return None if raw is None else raw / self.phases["create"].seconds[until]

    def cpu_ms(self, phase: str) -> float:
        """Operator's CPU per endpoint."""
        return 1000 * self.phases[phase].cpu_seconds["operator"] / self.count

    def raw_request_cpu_ms(self) -> float | None:
        """CPU of one request of the raw writes: the same code at each size, so its growth is the machine's."""
        seconds = self._told("cpu_seconds_per_request")
        return None if seconds is None else 1000 * seconds

    def cpu_ms_per_pass(self, *phases: str) -> float:
        """All of the operator's CPU by passes: watching, encoding, TLS and logging included."""
        seconds = sum(self.phases[name].cpu_seconds["operator"] for name in phases)
        return 1000 * seconds / max(1, sum(self.phases[name].passes for name in phases))

    def cpu_parts(self, phase: str) -> dict[str, float]:
        """Where the operator's CPU per endpoint went, ms; empty without raw runs.

        Requests at the price of raw ones, decisions at the price of those about endpoints that need nothing, and what
        is left: watches, event loop, logging, asking launchers.
        """
        request, decision = self.raw_request_cpu_ms(), self._told("cpu_seconds_per_decision")
        if request is None or decision is None:
            return {}
        found = {
            "requests to the API server": request * self.calls(phase, READ_VERBS | WRITE_VERBS) / self.count,
            "decisions of passes": 1000 * decision * self.phases[phase].passes / self.count,
        }
        return found | {"watches, event loop, logging": self.cpu_ms(phase) - sum(found.values())}

    def cpu_share(self, phase: str, process: str) -> float:
        """Part of the CPU that all processes used."""
        used = self.phases[phase].cpu_seconds
        return used[process] / sum(used.values())

    def peak_mb(self) -> float:
        """Peak of the operator's resident memory, over its two lives."""
        return max(phase.peak_bytes for phase in self.phases.values()) / 1e6
