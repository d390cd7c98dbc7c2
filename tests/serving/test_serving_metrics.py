from serving.serving_metrics import Metrics


def test_what_is_counted_comes_as_prometheus_reads_it():
    metrics, waiting = Metrics(), []
    metrics.watch_queue(lambda: len(waiting))
    waiting += ["a", "b"]
    metrics.requests.labels("200").inc()
    metrics.batch_size.observe(3)
    lines = metrics.text().decode().splitlines()
    for line in (
        "diffa_queue_depth 2.0",
        'diffa_requests_total{status="200"} 1.0',
        'diffa_batch_size_bucket{le="2.0"} 0.0',
        'diffa_batch_size_bucket{le="4.0"} 1.0',
        "diffa_batch_size_sum 3.0",
    ):
        assert line in lines


def test_two_servers_in_one_process_count_apart():
    one, other = Metrics(), Metrics()
    one.answer_tokens.inc(5)
    assert b"diffa_answer_tokens_total 5.0" in one.text() and b"diffa_answer_tokens_total 0.0" in other.text()
