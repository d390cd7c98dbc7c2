import shutil

import pytest

from src.manifest import read_manifest
from tests.data_prep.corpora import main, prepare, put_audio, put_text, read_into, voxceleb1


def test_voxceleb1(tmp_path, capsys):
    samples = prepare("voxceleb1", tmp_path)
    assert list(samples) == ["id10001-1zcIwhmdeo4-00001", "id10001-7gWzIy6yIIk-00001", "id10002-0_laIeN-Q44-00001"]
    one = samples["id10001-1zcIwhmdeo4-00001"]
    assert one.extra["attributes"] == {"gender": "male", "nationality": "Ireland"}
    assert (one.transcription, one.extra["transcribed"]) == ("", False)
    assert one.target == "The speaker is male and comes from Ireland." and one.input == "Describe the speaker."
    assert "Buckley" not in (tmp_path / "voxceleb1.json").read_text()
    assert "3 without a transcript" in capsys.readouterr().out
    assert list(prepare("voxceleb1", tmp_path, "--splits", "test")) == ["id10270-5r0dWxy17C8-00001"]


def test_voxceleb1_with_archives_unpacked_apart_and_a_speaker_unknown(tmp_path):
    root = tmp_path / "voxceleb1"
    voxceleb1(root)
    (root / "wav").rename(root / "dev_wav")
    (root / "dev").mkdir()
    (root / "dev_wav").rename(root / "dev" / "wav")
    put_audio(root / "test" / "wav" / "id19999" / "x" / "00001.wav")
    assert main("voxceleb1", root, tmp_path / "m.json") == 0
    assert len(read_manifest(tmp_path / "m.json")) == 3
    assert "id19999 is not in vox1_meta.csv" in (tmp_path / "m.skipped.txt").read_text()


@pytest.mark.parametrize("folders", ["id10001/v", "wav/id10001/v", "vox1/dev/wav/id10001/v"])
def test_voxceleb1_as_flac_at_other_depths(tmp_path, folders):
    voxceleb1(tmp_path / "root")
    shutil.rmtree(tmp_path / "root" / "wav")
    put_audio(tmp_path / "root" / folders / "00001.flac")
    put_text(tmp_path / "root" / folders / "._00001.flac", "of a Macintosh")
    (sample,) = read_into(tmp_path, "voxceleb1", tmp_path / "root")
    assert sample.audio_id == "id10001-v-00001" and not (tmp_path / "m.skipped.txt").exists()


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_vox1_meta_without_tabs(tmp_path, capsys, delimiter):
    voxceleb1(tmp_path / "root")
    table = tmp_path / "root" / "vox1_meta.csv"
    table.write_text(table.read_text().replace("\t", delimiter))
    status = main("voxceleb1", tmp_path / "root", tmp_path / "m.json")
    if delimiter == ",":
        assert status == 0 and read_manifest(tmp_path / "m.json")[0].extra["attributes"]["nationality"] == "Ireland"
    else:
        assert status == 2
        error = "line 2: no VoxCeleb1 ID, Gender, Nationality, Set. Expected tab-separated VoxCeleb1 ID"
        assert error in capsys.readouterr().err
