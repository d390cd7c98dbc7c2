import json

import pytest

from perf import feeding


class Clock:
    """Stands in for `time`: it goes on when somebody sleeps."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("waits", "share"), [((0.5, 0, 0), 0), ((0, 0.1, 0.1), 0.4), ((9, 0.15, 0), 0.2)])
def test_only_waits_from_the_second_batch_on_count(monkeypatch, waits, share):
    clock = Clock()
    monkeypatch.setattr(feeding, "time", clock)

    def slow():
        for number, wait in enumerate(waits):
            clock.sleep(wait)
            yield number

    assert feeding.idle_share(slow(), 0.15 if share == 0.4 else 0.3) == pytest.approx(share)


def test_every_way_gives_every_clips_features(tmp_path):
    files = feeding.write_clips(tmp_path, 5, 0.3)
    extractor = feeding.WhisperFeatureExtractor()
    plain = list(feeding.one_after_the_other(extractor, files, 2))
    assert [tuple(features.shape) for features in plain] == [(2, 80, 3000), (2, 80, 3000), (1, 80, 3000)]
    ahead = [sounds.input_features for _, sounds in feeding.benchmark_feed(extractor, files, 2)]
    trained = list(feeding.training_feed(extractor, files, 2, workers=1))
    for features, *others in zip(plain, ahead, trained, strict=True):
        assert all(features.equal(other) for other in others)


def test_the_table_and_the_record(tmp_path, capsys):
    flags = ["--batch_size", "1", "--batches", "2", "--batch_seconds", "0.05", "--clip_seconds", "0.2"]
    assert feeding.main([*flags, "--json", str(tmp_path / "feeding.json")]) == 0
    assert [line.split("  ")[1] for line in capsys.readouterr().out.splitlines()[1:]] == list(feeding.ROWS)
    record = json.loads((tmp_path / "feeding.json").read_text())
    assert list(record["idle_share"]) == list(feeding.ROWS) and record["settings"]["batch_size"] == 1
    with pytest.raises(SystemExit):
        feeding.main(["--batches", "1"])
