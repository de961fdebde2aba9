"""The policies that are compared, each written from the public description of what it stands for.

All see the same figures and have the same target in flight per replica, where they have one. None of them is the
program that it is named after: differences are named in its docstring.
"""

import math
from collections import deque
from collections.abc import Callable

from berth.decide.demand import Bounds, Signals, begin
from berth.decide.scaling import decide
from tests.bench.scaling.simulate import Look, Plant, Policy


class Berth:
    """The brain of the operator, every 5 s. It knows the cold start, which the operator measures.

    To zero after five cold starts without a request, at most half an hour: `idleSeconds` is the user's.
    """

    interval_seconds = 5.0

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        idle = min(1800.0, 5 * plant.cold_start_seconds) if plant.min == 0 else None
        self._bounds = Bounds(plant.min, plant.max, plant.target, idle)
        self._state = begin(plant.min, 0.0)

    def decide(self, look: Look) -> int:
        """The replicas it wants."""
        signals = Signals(
            look.now, look.in_flight, True, look.asked, len(look.ready), False, self._plant.cold_start_seconds
        )
        self._state, decision = decide(self._state, self._bounds, signals)
        return decision.replicas


class _HorizontalPodAutoscaler:
    """A sync every 15 s, 10 % tolerance, up by ×2 or +4 in 15 s, down to the most that was wanted in 300 s.

    Source: Kubernetes documentation, "Horizontal Pod Autoscaling": algorithm details, default behavior.
    """

    interval_seconds = 15.0
    tolerance = 0.1
    window_seconds = 300.0

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._wanted: deque[tuple[float, int]] = deque()

    def limited(self, look: Look, wanted: int) -> int:
        """What `behavior` makes of a wanted count."""
        self._wanted.append((look.now, wanted))
        while self._wanted[0][0] < look.now - self.window_seconds:
            self._wanted.popleft()
        if wanted > look.asked:
            return min(wanted, max(2 * look.asked, look.asked + 4))
        return min(look.asked, max(count for _, count in self._wanted))


class HpaOnWaiting(_HorizontalPodAutoscaler):
    """An HPA on `num_requests_waiting`, 5 a pod on average, as most tutorials for vLLM have it.

    Pods that are not ready count as without requests when that would scale up and as at the target when it would scale
    down (Kubernetes, replica_calculator.go). At zero, which it cannot leave by a metric of pods, by what is held.
    """

    target = 5.0

    def decide(self, look: Look) -> int:
        """The replicas it wants."""
        waiting = sum(max(0, count - self._plant.slots) for count in look.ready) + look.held
        if not look.asked:
            return self.limited(look, math.ceil(waiting / self.target))
        pods = max(1, len(look.ready))
        ratio = waiting / pods / self.target
        loading = look.asked - len(look.ready)
        if loading and ratio != 1:
            ratio = (waiting + (0 if ratio > 1 else loading * self.target)) / look.asked / self.target
            pods = look.asked
        wanted = look.asked if abs(ratio - 1) <= self.tolerance else math.ceil(ratio * pods)
        return self.limited(look, wanted)


class HpaOnInFlight(_HorizontalPodAutoscaler):
    """An HPA on requests in flight as an external metric with `AverageValue`: the sum by the target."""

    def decide(self, look: Look) -> int:
        """The replicas it wants."""
        wanted = math.ceil(look.in_flight / self._plant.target)
        if look.asked and abs(look.in_flight / (self._plant.target * look.asked) - 1) <= self.tolerance:
            wanted = look.asked
        return self.limited(look, wanted)


class KubeAI:
    """A simple moving average over 10 minutes that begins with zeros; down after 30 s, three looks in a row.

    A request at zero replicas asks for one at once. Source: KubeAI's documentation, "Autoscaling", and its defaults
    `interval: 10s`, `timeWindow: 10m`, `scaleDownDelaySeconds: 30`.
    """

    interval_seconds = 10.0

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._samples = deque([0.0] * 60, maxlen=60)
        self._lower = 0

    def decide(self, look: Look) -> int:
        """The replicas it wants."""
        self._samples.append(look.in_flight)
        wanted = math.ceil(sum(self._samples) / 60 / self._plant.target)
        if not look.asked and look.in_flight:
            wanted = max(wanted, 1)
        self._lower = self._lower + 1 if wanted < look.asked else 0
        return look.asked if 0 < self._lower < 3 else wanted


class Knative:
    """KPA: mean concurrency of 60 s, or of 6 s while that asks for twice what is ready, and then never down.

    A look every 2 s on samples of each of them (Knative takes one a second); up to 1,000 times and down to half of what
    is ready at a time; to zero 30 s after a window without a request. Source: Knative's documentation, "Configuring
    autoscaling", "Additional autoscaling configuration for KPA".
    """

    interval_seconds = 2.0
    stable_seconds, panic_seconds, grace_seconds = 60.0, 6.0, 30.0

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._samples: deque[int] = deque(maxlen=int(self.stable_seconds / self.interval_seconds))
        self._panic: float | None = None
        self._most = 0
        self._zero: float | None = None

    def decide(self, look: Look) -> int:
        """The replicas it wants."""
        self._samples.append(look.in_flight)
        last = list(self._samples)[-int(self.panic_seconds / self.interval_seconds) :]
        ready = max(1, len(look.ready))
        stable = self._count(sum(self._samples) / len(self._samples), ready)
        panic = self._count(sum(last) / len(last), ready)
        if panic / ready >= 2:
            self._panic = look.now
        elif self._panic is not None and look.now - self._panic > self.stable_seconds:
            self._panic, self._most = None, 0
        if self._panic is not None:
            self._most = max(self._most, stable, panic)
            stable = self._most
        if stable:
            self._zero = None
            return stable
        self._zero = look.now if self._zero is None else self._zero
        return 0 if look.now - self._zero >= self.grace_seconds else min(look.asked, 1)

    def _count(self, mean: float, ready: int) -> int:
        wanted = math.ceil(mean / self._plant.target)
        return max(min(wanted, 1000 * ready), ready // 2)


class WorkloadVariantAutoscaler:
    """llm-d's saturation rules: one more when replicas that are not saturated have little spare, none while one loads.

    A decision a minute on the highest figures of the last minute. Use of the KV cache is the share of the slots in use.
    One less when the others would keep enough spare. Source: llm-d's "Saturation Analyzer" (first version of the rules,
    with its defaults). At zero, one for what is held; to zero after 10 minutes without a request.
    """

    interval_seconds = 15.0
    decisions_seconds = 60.0
    retention_seconds = 600.0
    kv_threshold, queue_threshold, kv_spare, queue_spare = 0.8, 5.0, 0.1, 3.0

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._busy = 0.0
        self._looks: deque[Look] = deque(maxlen=int(self.decisions_seconds / self.interval_seconds))

    def decide(self, look: Look) -> int:
        """The replicas it wants."""
        self._looks.append(look)
        self._busy = look.now if look.in_flight else self._busy
        if not look.asked:
            return min(1, look.held)
        if look.now % self.decisions_seconds or look.asked > len(look.ready):
            return look.asked
        same = [past.ready for past in self._looks if len(past.ready) == len(look.ready)]
        most = [max(counts) for counts in zip(*same, strict=True)]
        use = [(min(1.0, count / self._plant.slots), max(0, count - self._plant.slots)) for count in most]
        spare = [(kv, queue) for kv, queue in use if kv < self.kv_threshold and queue < self.queue_threshold]
        kv, queue = sum(kv for kv, _ in spare), sum(queue for _, queue in spare)
        if not spare or not self._enough(kv, queue, len(spare)):
            return look.asked + 1
        if look.asked == 1:
            return int(look.now - self._busy < self.retention_seconds)
        return look.asked - 1 if len(spare) > 1 and self._enough(kv, queue, len(spare) - 1) else look.asked

    def _enough(self, kv: float, queue: float, replicas: int) -> bool:
        spare_kv, spare_queue = self.kv_threshold - kv / replicas, self.queue_threshold - queue / replicas
        return spare_kv >= self.kv_spare and spare_queue >= self.queue_spare


POLICIES: dict[str, Callable[[Plant], Policy]] = {
    "Berth": Berth,
    "HPA, waiting": HpaOnWaiting,
    "HPA, in flight": HpaOnInFlight,
    "KubeAI": KubeAI,
    "Knative": Knative,
    "WVA": WorkloadVariantAutoscaler,
}
