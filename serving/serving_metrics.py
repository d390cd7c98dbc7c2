"""What the server counts, in Prometheus' text format."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """One server's figures, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # by the HTTP status; 499: the client left, 500 also where a stream broke off
        self.requests = Counter("diffa_requests", "Chat completion requests", ["status"], registry=self.registry)
        self.latency = Histogram(
            "diffa_request_seconds", "Seconds from a request to the end of its answer; answered ones alone",
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.queue_depth = Gauge("diffa_queue_depth", "Requests that wait for the model", registry=self.registry)
        self.batch_size = Histogram(
            "diffa_batch_size", "Requests answered together", buckets=BATCH_SIZES, registry=self.registry
        )
        self.forward_passes = Counter(
            "diffa_forward_passes", "Forward passes of the LLM; one of a batch counts once", registry=self.registry
        )
        self.answer_tokens = Counter("diffa_answer_tokens", "Tokens of answers", registry=self.registry)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        self.queue_depth.set_function(depth)

    def text(self) -> bytes:
        return generate_latest(self.registry)
