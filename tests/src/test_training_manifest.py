import pytest

from src.manifest import ManifestError, write_manifest
from src.training_manifest import read_training_manifest
from tests.conftest import in_time
from tests.src.test_manifest import ENTRY, damaged_manifests


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "there.wav").write_bytes(b"not looked at")
    return tmp_path


def entry(name, **changes):
    return ENTRY | {"audio_id": name, "audio_filepath": "there.wav"} | changes


def read(folder, entries, stage=1, max_seconds=30.0, max_bad_fraction=0.001):
    write_manifest(folder / "m.jsonl", entries)
    return read_training_manifest(folder / "m.jsonl", stage, max_seconds, max_bad_fraction)


def refused(folder, entries, **settings):
    with pytest.raises(ManifestError) as caught:
        read(folder, entries, **settings)
    return str(caught.value).split("\n")


def test_a_good_manifest_is_read_in_silence(folder):
    samples, warning = read(folder, [entry("a"), entry("b", extra=1)])
    assert [sample.audio_id for sample in samples] == ["a", "b"] and warning == ""
    assert samples[0].audio_filepath == folder / "there.wav" and samples[1].extra == {"extra": 1}


def test_all_that_cannot_be_trained_on_is_told_at_once(folder):
    (folder / "empty.wav").touch()
    faulty = [
        entry("a"),
        entry("b", target=" "),
        entry("c", audio_filepath="gone.wav"),
        entry("d", duration="long", target=""),
        {"audio_id": "e"},
        entry("f", audio_filepath="empty.wav"),
        entry("a"),  # an oddity does not stop training
    ]
    found = refused(folder, faulty)
    assert found[0] == (
        f"manifest {folder / 'm.jsonl'}: 5 of 7 entries cannot be trained on; --max_bad_fraction 0.001 allows fewer "
        "missing files"
    )
    assert found[1:5] == [
        "line 2, b: target is empty",
        f"line 3, c: {folder / 'gone.wav'}: no such audio file",
        "line 4, d: duration is 'long'; expected a number",
        "line 4, d: target is empty",
    ]
    assert found[5].startswith("line 5, e: missing audio_filepath, input, target, ")
    assert found[6:] == [f"line 6, f: {folder / 'empty.wav'}: the file is empty (0 bytes)"]


def test_a_long_list_is_cut_and_counted(folder):
    found = refused(folder, [entry(str(n), target="") for n in range(25)])
    assert len(found) == 12 and found[0].endswith("25 of 25 entries cannot be trained on")
    assert found[10].startswith("line 10, 9: ")
    assert found[11] == "and 15 more; python -m src.manifest check names them all"


def test_few_missing_files_are_borne_as_in_training(folder):
    """The trainer counts files, of the manifest's entries; both of these name the same one."""
    entries = [entry("a"), entry("b"), *(entry(name, audio_filepath="gone.wav") for name in "cd")]
    samples, warning = read(folder, entries, max_bad_fraction=0.25)
    assert len(samples) == 4
    assert warning.split("\n") == [
        f"manifest {folder / 'm.jsonl'}: 2 of 4 entries look odd",
        f"line 3, c: {folder / 'gone.wav'}: no such audio file",
        f"line 4, d: {folder / 'gone.wav'}: no such audio file",
    ]
    assert "allows fewer missing files" in refused(folder, entries, max_bad_fraction=0.24)[0]


def test_what_is_only_suspicious_is_told(folder):
    entries = [
        entry("a", duration=0.05),
        entry("a"),
        entry("b", transcription=""),
        entry("c", transcription="", transcribed=False),
        entry("", duration=31),
    ]
    expected = [
        "line 1, a: lasts 0.050 s; clips must last at least 0.1 s",
        "line 2, a: this audio_id stands in line 1 as well",
        "line 3, b: transcription is empty",
        "line 5, (no id): audio_id is empty",
        "line 5, (no id): lasts 31.00 s; what comes after 30 s is not heard",
    ]
    samples, warning = read(folder, entries)
    assert len(samples) == 5 and warning.split("\n")[1:] == expected
    assert read(folder, entries, stage=2)[1].split("\n")[1:] == expected[:2] + expected[3:]  # it does not read them


@pytest.mark.parametrize(("content", "message"), [("[]", "is empty: it has no samples"), ("[{", "is not valid JSON")])
def test_files_that_are_no_manifests(tmp_path, content, message):
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(ManifestError, match=rf"m\.json {message}"):
        read_training_manifest(tmp_path / "m.json", 1, 30.0, 0.001)


def test_300_damaged_manifests_are_read_or_named(tmp_path):
    for number in range(10):
        (tmp_path / f"a{number}.wav").write_bytes(b"not looked at")
    refused = 0
    for path in damaged_manifests(tmp_path):
        try:
            samples, warning = in_time(20, path.name, read_training_manifest, path, 1, 30.0, 0.001)
            assert samples and all(sample.target.strip() for sample in samples)
            assert str(path) in warning or not warning
        except ManifestError as error:
            assert str(path) in str(error)
            refused += 1
    assert 100 < refused < 300
