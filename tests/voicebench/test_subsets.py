from pathlib import Path

import pytest

from voicebench.evaluate import results_in
from voicebench.subsets import recognise, split_of_result


@pytest.mark.parametrize(
    ("name", "subset", "split"),
    [
        ("diffa-alpacaeval-test-audio.jsonl", "alpacaeval", "test"),
        ("diffa-alpacaeval_full-test-audio.jsonl", "alpacaeval_full", "test"),
        ("diffa-alpacaeval_speaker-test-audio.jsonl", None, None),
        ("diffa-alpacaeval_speaker.jsonl", None, None),
        ("mmsu-law.jsonl", "mmsu", "law"),
        ("diffa-mmsu-law.jsonl", "mmsu", "law"),
        ("diffa_mmsu_law.jsonl", "mmsu", "law"),
        ("diffa-mmsu.jsonl", "mmsu", None),
        ("diffa-mmsu-test-audio.jsonl", "mmsu", "test"),
        ("diffa-mmsu-new-audio.jsonl", "mmsu", "new"),
        ("result-diffa-sd-qa-usa-audio.jsonl", "sd-qa", "usa"),
        ("sd-qa_ind_n.jsonl", "sd-qa", "ind_n"),
        ("diffa-mmsu-v2.jsonl", "mmsu", None),  # a version of the model, say
        ("notes.jsonl", None, None),
    ],
)
def test_what_a_name_tells(tmp_path, name, subset, split):
    assert recognise(Path(name), ()) == subset
    assert split_of_result(tmp_path / name, subset) == split


def test_results_in_a_folder(tmp_path):
    names = [
        "a-bbh-test-audio.jsonl", "mmsu-law.jsonl", "notes.jsonl", "a-wildvoice-test-audio.jsonl",
        "a-wildvoice-test-audio.jsonl.judge.jsonl", "result-a-wildvoice-test-audio.jsonl",
        "result-b-wildvoice-test-audio.jsonl",
    ]  # fmt: skip
    for name in names:
        (tmp_path / name).touch()
    found = [path.name for path in results_in(tmp_path)]
    assert found == [
        "a-bbh-test-audio.jsonl", "a-wildvoice-test-audio.jsonl", "mmsu-law.jsonl",
        "result-b-wildvoice-test-audio.jsonl",
    ]  # fmt: skip
