from src.manifest import read_manifest
from tests.data_prep.corpora import attributes, iemocap, prepare, read_into


def test_iemocap(tmp_path):
    samples = prepare("iemocap", tmp_path)
    rated = {"valence": 2.5, "activation": 2.0, "dominance": 3.5}
    assert attributes(samples) == {
        "Ses01F_impro01_F000": {"gender": "female", "emotion": "neutral"} | rated,
        "Ses01F_impro01_M001": {"gender": "male"} | rated,  # no agreement on the emotion
        "Ses02M_script01_1_F003": {"gender": "female", "emotion": "angry"} | rated,
    }
    assert [sample.target for sample in samples.values()] == ["Excuse me.", "Yes. [LAUGHTER]", "No."]
    assert [sample.extra["speaker"] for sample in samples.values()] == ["Ses01F", "Ses01M", "Ses02F"]


def test_iemocap_holds_out_whole_sessions(tmp_path):
    train = prepare("iemocap", tmp_path, "--dev_fraction", 0.5)
    dev = read_manifest(tmp_path / "iemocap.dev.json")
    sessions = [{name[:5] for name in names} for names in (train, (sample.audio_id for sample in dev))]
    assert sorted(map(list, sessions)) == [["Ses01"], ["Ses02"]]


def test_iemocap_with_spaces_in_its_ratings(tmp_path, capsys):
    iemocap(tmp_path / "root")
    for path in (tmp_path / "root").glob("Session*/dialog/EmoEvaluation/*.txt"):
        path.write_text(path.read_text().replace("\t", "  "))
    samples = read_into(tmp_path, "iemocap", tmp_path / "root")
    assert samples[0].extra["attributes"]["emotion"] == "neutral" and "note: " not in capsys.readouterr().out
    path = tmp_path / "root" / "Session2" / "dialog" / "EmoEvaluation" / "Ses02M_script01_1.txt"
    path.write_text(path.read_text().replace("[6.2901", "[from 6.2901"))
    samples = read_into(tmp_path, "iemocap", tmp_path / "root")
    assert "emotion" in samples[0].extra["attributes"] and "emotion" not in samples[2].extra["attributes"]
    assert "note: 1 ratings are not as expected, [START - END] UTTERANCE EMOTION [V, A, D]; " in capsys.readouterr().out
