"""What the VoiceBench script reads and which files it answers into.

How it answers is in tests/evaluation/test_runner.py.
"""

import json
from pathlib import Path

import pytest

import inference_stage2_voicebench as script
from evaluation.benchmarks import LEADERBOARD_SUBSETS, SUBSETS, VOICEBENCH
from evaluation.result_files import BenchmarkFileError
from src.prompts import VOICEBENCH_PROMPT
from tests.evaluation.small_runs import write_parquet
from voicebench.questions import read_reference

MODEL = ["--model_path", "exp/diffa"]


def row(n, **fields):
    return {"prompt": f"p{n}", "audio": {"bytes": b"RIFF%d" % n, "path": f"{n}.wav"}, **fields}


@pytest.fixture
def tasks(monkeypatch):
    """The tasks that `main` would have answered, by the output's name."""
    made = {}

    def run(args, make_tasks):
        made.update({task.output.name: task for task in make_tasks()})
        return 0

    monkeypatch.setattr(script, "run", run)
    return made


def flags(folder, *more):
    return [*MODEL, "--data_path", str(folder), "--output_json", str(folder / "out"), *more]


def test_every_field_but_the_audio_survives(tmp_path, tasks):
    fields = {
        "key": 1001,
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{"num_words": None, "keywords": None}, {"num_words": 7, "keywords": ["a", "b"]}],
    }
    write_parquet(tmp_path / "ifeval" / "test-00000-of-00001.parquet", [row(0, **fields)])
    assert script.main(flags(tmp_path, "--data", "ifeval")) == 0
    (item,) = tasks["diffa-ifeval-test-audio.jsonl"].items
    assert json.loads(json.dumps(item.record)) == {"prompt": "p0", **fields}
    assert (item.audio.read(), item.instruction) == (b"RIFF0", VOICEBENCH_PROMPT)
    assert tasks["diffa-ifeval-test-audio.jsonl"].benchmark is VOICEBENCH


def test_shards_stay_in_order(tmp_path, tasks):
    for shard in (1, 0, 2):
        write_parquet(
            tmp_path / "wildvoice" / f"test-0000{shard}-of-00003.parquet", [row(2 * shard), row(2 * shard + 1)]
        )
    assert script.main(flags(tmp_path, "--data", "wildvoice")) == 0
    assert [item.record["prompt"] for item in tasks["diffa-wildvoice-test-audio.jsonl"].items] == [
        f"p{n}" for n in range(6)
    ]


@pytest.mark.parametrize(("subset", "split"), [("wildvoice", "test"), ("sd-qa", "usa"), ("mmsu", "law")])
def test_a_split_is_answered_whole_or_not_at_all(tmp_path, tasks, subset, split):
    first, second = (tmp_path / subset / f"{split}-0000{n}-of-00002.parquet" for n in range(2))
    write_parquet(first, [row(0)])
    of_folder, of_file = (flags(path, "--data", subset) for path in (tmp_path, first))
    for call in (of_folder, of_file):
        with pytest.raises(BenchmarkFileError, match=f"holds 1 of the 2 files of {split}: download the others"):
            script.main(call)
    write_parquet(second, [row(1)])
    for call in (of_folder, of_file, flags(second, "--data", subset)):
        tasks.clear()
        assert script.main(call) == 0
        (task,) = tasks.values()
        assert [item.record["prompt"] for item in task.items] == ["p0", "p1"]
        assert [record["prompt"] for record in read_reference(second, subset, split)[0]] == ["p0", "p1"]
    write_parquet(second.with_name(f"{split}-00001-of-00002-0123456789abcdef.parquet"), [row(1)])
    for call in (of_folder, of_file):
        with pytest.raises(BenchmarkFileError, match=rf"holds several versions of {split} \({split}-00000-of-00002\."):
            script.main(call)


def test_mmsu_is_split_by_domain(tmp_path, tasks):
    for n, domain in enumerate(("law", "biology")):
        write_parquet(tmp_path / "mmsu" / f"{domain}-00000-of-00001.parquet", [row(n, reference="A")])
    assert script.main(flags(tmp_path, "--data", "mmsu")) == 0
    items = tasks["diffa-mmsu-test-audio.jsonl"].items
    assert [item.record for item in items] == [
        {"split": "biology", "prompt": "p1", "reference": "A"},
        {"split": "law", "prompt": "p0", "reference": "A"},
    ]
    assert script.main(flags(tmp_path, "--data", "mmsu", "--split", "law")) == 0
    (item,) = tasks["diffa-mmsu-law-audio.jsonl"].items
    assert item.record == {"prompt": "p0", "reference": "A"}
    with pytest.raises(BenchmarkFileError, match=r"neither art-\*\.parquet nor art\.jsonl; it has biology, law"):
        script.find_files(tmp_path, "mmsu", ["art"])


def test_all_are_the_nine_of_the_leaderboard_and_split_is_a_region(tmp_path, tasks):
    for subset in SUBSETS:
        for split in ("usa", "gbr") if subset == "sd-qa" else ("test",):
            write_parquet(tmp_path / subset / f"{split}-00000-of-00001.parquet", [row(0)])
    assert script.main(flags(tmp_path, "--data", "all")) == 0
    assert sorted(tasks) == sorted(
        f"diffa-{subset}-{'usa' if subset == 'sd-qa' else 'test'}-audio.jsonl" for subset in LEADERBOARD_SUBSETS
    )
    tasks.clear()
    assert script.main(flags(tmp_path, "--data", "all", "--split", "gbr")) == 0
    assert "diffa-sd-qa-gbr-audio.jsonl" in tasks and "diffa-bbh-test-audio.jsonl" in tasks and len(tasks) == 9
    tasks.clear()
    assert script.main(flags(tmp_path, "--data", "alpacaeval_full")) == 0
    assert list(tasks) == ["diffa-alpacaeval_full-test-audio.jsonl"]


def test_all_takes_alpacaeval_full_where_it_is_there(tmp_path, tasks, capsys):
    """As VoiceBench's leaderboard; the small alpacaeval stands for it, and that is said."""
    for subset in set(LEADERBOARD_SUBSETS) - {"alpacaeval_full"} | {"alpacaeval"}:
        write_parquet(tmp_path / subset / f"{'usa' if subset == 'sd-qa' else 'test'}-0-of-1.parquet", [row(0)])
    assert script.main(flags(tmp_path, "--data", "all")) == 0
    assert "diffa-alpacaeval-test-audio.jsonl" in tasks and len(tasks) == 9
    assert (
        "holds no alpacaeval_full, which VoiceBench's leaderboard has: alpacaeval is answered"
        in capsys.readouterr().err
    )
    write_parquet(tmp_path / "alpacaeval_full" / "test-0-of-1.parquet", [row(0)])
    tasks.clear()
    assert script.main(flags(tmp_path, "--data", "all")) == 0
    assert "diffa-alpacaeval_full-test-audio.jsonl" in tasks and "diffa-alpacaeval-test-audio.jsonl" not in tasks


def test_one_file_is_of_the_subset_and_split_that_it_is_called_after(tmp_path, tasks):
    rows = [row(0)]
    for name, flag, output in (
        ("openbookqa/test.parquet", "--input_json", "diffa-openbookqa-test-audio.jsonl"),
        ("mmsu/law-00000-of-00001.parquet", "--input_json_path", "diffa-mmsu-law-audio.jsonl"),
        ("questions/law.parquet", "--data_path", "diffa-alpacaeval-test-audio.jsonl"),
    ):
        write_parquet(tmp_path / name, rows)
        assert script.main([*MODEL, flag, str(tmp_path / name), "--output_json", str(tmp_path / "out")]) == 0
        _, subset, split, _ = output.split("-")
        assert tasks.pop(output).about == {"subset": subset, "split": split} and not tasks
    file = str(tmp_path / "mmsu" / "law-00000-of-00001.parquet")
    given = [*MODEL, "--data_path", file, "--output_json", str(tmp_path / "out"), "--data"]
    assert script.main([*given, "bbh"]) == 0 and script.main([*given, "mmsu", "--split", "art"]) == 0
    assert list(tasks) == ["diffa-bbh-test-audio.jsonl", "diffa-mmsu-art-audio.jsonl"]


def test_a_file_that_is_there_is_the_output_whatever_it_is_called(tmp_path, tasks):
    write_parquet(tmp_path / "bbh" / "test.parquet", [row(0)])
    (tmp_path / "tmpfile").touch()
    flags = [*MODEL, "--data_path", str(tmp_path), "--output_json", str(tmp_path / "tmpfile")]
    assert script.main([*flags, "--data", "bbh"]) == 0
    assert tasks["tmpfile"].output == tmp_path / "tmpfile"
    with pytest.raises(SystemExit):
        script.main([*flags, "--data", "all"])


def test_audio_outside_the_parquet_file(tmp_path, tasks):
    sound = {"bytes": None, "path": "a.wav"}
    write_parquet(tmp_path / "bbh" / "test.parquet", [{"id": "navigate-1", "audio": sound}])
    assert script.main(flags(tmp_path, "--data", "bbh", "--audio_root", "/sounds")) == 0
    (item,) = tasks["diffa-bbh-test-audio.jsonl"].items
    assert item.audio == Path("/sounds/a.wav") and item.record == {"id": "navigate-1"}


def test_mtbench_is_refused_with_its_reason(tmp_path, tasks, capsys):
    with pytest.raises(SystemExit):
        script.main(flags(tmp_path, "--data", "mtbench"))
    assert "mtbench is not supported: it has questions that follow up on earlier answers" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script.main(flags(tmp_path, "--data", "triviaqa"))
    assert "invalid choice: 'triviaqa'" in capsys.readouterr().err
