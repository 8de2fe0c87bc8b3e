"""GET /metrics: what registry/measures.py tells, requests, and what is there at the moment, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from registry.manager import Manager
from registry.measures import What

# Seconds. Requests take milliseconds, generations minutes; a probe of a remote file takes a round trip or two.
_SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600)


@dataclass(frozen=True, slots=True)
class _Metric:
    """`label`: what registry/measures.py gives with the number; None: nothing. `buckets`: of a histogram; None: a counter."""

    name: str
    help: str
    label: str | None = None
    buckets: tuple[float, ...] | None = None

    def made(self, registry: CollectorRegistry) -> Callable[[float, str], None]:
        labels = (self.label,) if self.label else ()
        if self.buckets is None:
            counter = Counter(self.name, self.help, labels, registry=registry)
            return lambda value, label: (counter.labels(label) if labels else counter).inc(value)
        histogram = Histogram(self.name, self.help, labels, registry=registry, buckets=self.buckets)
        return lambda value, label: (histogram.labels(label) if labels else histogram).observe(value)


METRICS: Mapping[What, _Metric] = {
    What.INSTALL_ENDED: _Metric("modelshelf_installs", "Installs that ended, by state.", "state"),
    What.BYTES_DOWNLOADED: _Metric("modelshelf_downloaded_bytes", "Bytes that installs have fetched."),
    What.PROBED: _Metric("modelshelf_probe_seconds", "From a source's address to what it is.", None, _SHORT),
    What.GENERATION_ENDED: _Metric("modelshelf_generations", "Generations that ended, by state.", "state"),
    What.GENERATION_WAITED: _Metric("modelshelf_queue_wait_seconds", "Time in the queue.", None, _LONG),
    What.GENERATION_PART: _Metric(
        "modelshelf_generation_seconds",
        "Time of each part of a generation: load brings weights into memory, adapters is the switching of LoRAs.",
        "part",
        _LONG,
    ),
    What.PICTURES: _Metric("modelshelf_pictures", "Pictures that were made."),
}


class _Present(Collector):
    """What is there when it is asked for."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def collect(self) -> Iterator[GaugeMetricFamily]:
        waiting, running = self._manager.generator.queue.sizes()
        yield GaugeMetricFamily("modelshelf_queue_waiting", "Generations that wait.", waiting)
        yield GaugeMetricFamily("modelshelf_queue_running", "Generations that run.", running)
        models = GaugeMetricFamily("modelshelf_models", "Models on the shelf.", labels=("family", "kind"))
        for labels, number in self._manager.catalog.counts().items():
            models.add_metric(labels, number)
        yield models
        used = GaugeMetricFamily("modelshelf_resident_bytes", "Bytes of loaded weights.", labels=("tier", "device"))
        budget = GaugeMetricFamily("modelshelf_resident_budget_bytes", "Most of them.", labels=("tier", "device"))
        for tier in self._manager.residents().tiers:
            used.add_metric((tier.name, tier.device), tier.used)
            budget.add_metric((tier.name, tier.device), tier.budget)
        yield from (used, budget)


class Metrics:
    """Counts from the start of the service on."""

    def __init__(self, manager: Manager) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Present(manager))
        self._tell = {what: metric.made(self._registry) for what, metric in METRICS.items()}
        self._requests = Histogram(
            "modelshelf_http_request_seconds",
            "Requests, by route.",
            ("method", "route", "status"),
            registry=self._registry,
            buckets=_SHORT,
        )
        manager.measures.subscribe(lambda what, value, label: self._tell[what](value, label))

    def on_request(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method if method in _METHODS else "other", route, status).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # a stranger's own would each be a new series
