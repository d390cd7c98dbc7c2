from tests.data_prep.corpora import accentdb, attributes, prepare, put_audio, read_into


def test_accentdb(tmp_path):
    samples = prepare("accentdb", tmp_path)
    assert attributes(samples) == {
        "odiya-speaker_01-odiya_s01_001": {"accent": "Odiya"},
        "welsh-speaker_01-welsh_s01_001": {"accent": "Welsh"},
        "welsh-speaker_01-welsh_s01_002": {"accent": "Welsh"},
    }
    assert [sample.target for sample in samples.values()][:2] == [
        "The speaker has an Odiya accent.",
        "The speaker has a Welsh accent.",
    ]
    assert {sample.extra["speaker"] for sample in samples.values()} == {"odiya-speaker_01", "welsh-speaker_01"}


def test_both_archives_of_accentdb_are_read_and_what_they_share_once(tmp_path):
    accentdb(tmp_path / "root" / "accentdb_core")
    accentdb(tmp_path / "root" / "accentdb_extended")
    put_audio(tmp_path / "root" / "accentdb_extended" / "data" / "indian" / "speaker_02" / "indian_s02_001.flac")
    assert len(read_into(tmp_path, "accentdb", tmp_path / "root")) == 4
    assert (tmp_path / "m.skipped.txt").read_text().count("a clip before it has the same id") == 3
