import json

import pytest

from evaluation.kaldi_files import check_ids, read_table, read_transcripts, read_wav_scp, write_text
from evaluation.result_files import BenchmarkFileError


def test_a_table_is_ids_and_what_follows(tmp_path):
    path = tmp_path / "text"
    path.write_text("a one two\n\nb\tthree  four \nc\nd \u4f60\u597d\r\n")
    assert read_table(path) == [("a", "one two"), ("b", "three  four"), ("c", ""), ("d", "\u4f60\u597d")]
    path.write_text("a one\na two\n")
    with pytest.raises(BenchmarkFileError, match="occur more than once: a"):
        read_table(path)
    path.write_bytes(b"a \xff\n")
    with pytest.raises(BenchmarkFileError, match="not a text in UTF-8"):
        read_table(path)
    with pytest.raises(BenchmarkFileError, match="gone: no such file"):
        read_table(tmp_path / "gone")


def test_a_wav_scp_names_sound_files(tmp_path):
    path = tmp_path / "wav.scp"
    path.write_text("a a b.wav\nc /d.wav\n")
    assert read_wav_scp(path) == [
        {"audio_id": "a", "audio_filepath": "a b.wav"}, {"audio_id": "c", "audio_filepath": "/d.wav"},
    ]  # fmt: skip
    path.write_text("a\nb sph2pipe -f wav b.sph |\nc c.wav\n")
    with pytest.raises(BenchmarkFileError) as error:
        read_wav_scp(path)
    assert "utterance a: expected the path of a sound file, found no path" in str(error.value)
    assert "found the command 'sph2pipe -f wav b.sph |'" in str(error.value) and "2 problem(s)" in str(error.value)
    path.write_text("\n")
    with pytest.raises(BenchmarkFileError, match="holds no utterances"):
        read_wav_scp(path)


def test_transcripts_are_read_from_json_and_from_text(tmp_path):
    path = tmp_path / "r"
    path.write_text("a one two\nb\n")
    assert read_transcripts(path, "response") == (
        [{"audio_id": "a", "response": "one two"}, {"audio_id": "b", "response": ""}], [],
    )  # fmt: skip
    record = {"audio_id": "a", "response": "one"}
    for text in (f"\n [{json.dumps(record)}]", json.dumps(record) + "\n"):
        path.write_text(text)
        assert read_transcripts(path, "response") == ([record], [])
    with pytest.raises(BenchmarkFileError, match="gone: no such file"):
        read_transcripts(tmp_path / "gone", "response")


def test_failures_leave_no_words(tmp_path):
    records = [
        {"audio_id": "a", "response": " one\n two "},
        {"audio_id": "b", "response": "", "error": "b.wav: no such audio file"},
        {"audio_id": 3, "response": ""},
    ]
    (tmp_path / "o.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    write_text(tmp_path / "new" / "text", tmp_path / "o.jsonl")
    assert (tmp_path / "new" / "text").read_text() == "a one two\nb\n3\n"


def test_ids_of_text_have_no_white_space(tmp_path):
    check_ids(tmp_path, [{"audio_filepath": "a.wav"}, {"audio_id": 1}])
    with pytest.raises(BenchmarkFileError, match=r"the first being 'a b\.wav': give them an audio_id"):
        check_ids(tmp_path, [{"audio_filepath": "a b.wav"}])
    with pytest.raises(BenchmarkFileError, match="more than once: a"):
        check_ids(tmp_path, [{"audio_id": "a"}, {"audio_id": "a"}])
