"""VoiceBench answered from Parquet files and from JSON Lines."""

import json

import pyarrow
import pyarrow.parquet
import pytest

import inference_stage2_voicebench
from evaluation import parquet_audio
from src.audio import read_audio
from src.prompts import VOICEBENCH_PROMPT
from tests.evaluation.small_runs import GOLDEN, MODEL, lines, write_lines
from voicebench.evaluate import main as evaluate_voicebench


def test_voicebench_parquet_and_lines(folder, echo):
    data = folder / "voicebench"
    sounds = [{"bytes": (GOLDEN / f"clip{n}.wav").read_bytes(), "path": f"{n}.wav"} for n in range(3)]
    rows = [{"prompt": f"p{n}", "reference": "A", "audio": sound} for n, sound in enumerate(sounds)]
    (data / "openbookqa").mkdir(parents=True)
    for shard, part in enumerate((rows[:2], rows[2:])):
        table = pyarrow.Table.from_pylist(part)
        pyarrow.parquet.write_table(table, data / "openbookqa" / f"test-{shard:05d}-of-00002.parquet")
    write_lines(data / "sd-qa" / "usa.jsonl", [{"prompt": "q", "audio_path": "../../clip1.wav", "reference": "x"}])
    flags = [*MODEL, "--data_path", str(data), "--output_json", str(folder / "out"), "--data", "openbookqa", "sd-qa"]
    assert inference_stage2_voicebench.main(flags) == 0
    result = lines(folder / "out" / "diffa_upstream-openbookqa-test-audio.jsonl")
    lengths = [len(read_audio(GOLDEN / f"clip{n}.wav")) for n in range(3)]
    assert result == [
        {"prompt": f"p{n}", "reference": "A", "response": f"{lengths[n]} {VOICEBENCH_PROMPT}"} for n in range(3)
    ]
    (answer,) = lines(folder / "out" / "diffa_upstream-sd-qa-usa-audio.jsonl")
    assert answer["audio_path"] == "../../clip1.wav" and answer["response"].startswith(str(lengths[1]))


@pytest.fixture
def row_groups_read(monkeypatch):
    """The row groups whose audio was read, in order."""
    read, original = [], parquet_audio.read_row_group

    def read_row_group(parquet, number, column):
        read.append(number)
        return original(parquet, number, column)

    monkeypatch.setattr(parquet_audio, "read_row_group", read_row_group)
    parquet_audio.kept.clear()
    return read


def write_twice(folder, count, row_group_size):
    """The same questions as Parquet, whose path is returned, and as JSON Lines."""
    rows = [{"prompt": f"p{n}", "nested": [{"n": n}]} for n in range(count)]
    sounds = [(GOLDEN / f"clip{n % 3}.wav").read_bytes() for n in range(count)]
    table = pyarrow.Table.from_pylist(
        [{**row, "audio": {"bytes": s, "path": None}} for row, s in zip(rows, sounds, strict=True)]
    )
    files = folder / "bbh" / "test.parquet", folder / "lines" / "bbh" / "test.jsonl"
    files[0].parent.mkdir()
    # neither compressed nor made a dictionary of: each row's bytes lie in the file as they are
    pyarrow.parquet.write_table(table, files[0], row_group_size, compression="none", use_dictionary=False)
    write_lines(files[1], [{**row, "audio": str(GOLDEN / f"clip{n % 3}.wav")} for n, row in enumerate(rows)])
    return files[0]


def voicebench(data, output, *flags):
    paths = ["--data", "bbh", "--data_path", str(data), "--output_json", str(output)]
    return inference_stage2_voicebench.main([*MODEL, *paths, *flags])


@pytest.mark.parametrize("flags", [[], ["--swap_audio"], ["--limit", "5"]])
def test_parquet_is_read_as_it_is_needed_and_answered_like_lines(folder, echo, row_groups_read, flags):
    write_twice(folder, 10, row_group_size=4)
    assert voicebench(folder / "lines", folder / "lines.jsonl", *flags, "--batch_size", "3") == 0
    echo.batches.clear()
    assert voicebench(folder, folder / "p.jsonl", *flags, "--batch_size", "3") == 0
    assert (folder / "p.jsonl").read_text() == (folder / "lines.jsonl").read_text()
    assert echo.batches == ([3, 2] if "--limit" in flags else [3, 3, 3, 1])
    assert row_groups_read == ([0, 1] if "--limit" in flags else [0, 1, 2])  # each once, one after the other


def test_parquet_audio_is_not_read_for_what_is_answered(folder, echo, monkeypatch, row_groups_read):
    write_twice(folder, 10, row_group_size=2)
    answer = echo.answer

    def fail_at_third(*arguments):
        if len(echo.batches) == 2:
            raise KeyboardInterrupt
        return answer(*arguments)

    monkeypatch.setattr(echo, "answer", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        voicebench(folder, folder / "p.jsonl", "--batch_size", "2")
    assert row_groups_read == [0, 1, 2, 3]  # one ahead
    monkeypatch.setattr(echo, "answer", answer)
    parquet_audio.kept.clear()
    row_groups_read.clear()
    assert voicebench(folder, folder / "p.jsonl", "--batch_size", "2") == 0
    assert row_groups_read == [2, 3, 4] and len(lines(folder / "p.jsonl")) == 10
    row_groups_read.clear()
    assert voicebench(folder, folder / "p.jsonl") == 0 and row_groups_read == []


def test_damage_in_a_parquet_file_costs_the_items_it_hits(folder, echo, capsys):
    parquet = write_twice(folder, 9, row_group_size=3)
    content = bytearray(parquet.read_bytes())
    groups = [pyarrow.parquet.ParquetFile(parquet).metadata.row_group(n) for n in range(3)]
    names = [groups[0].column(n).path_in_schema for n in range(groups[0].num_columns)]
    pages = [group.column(names.index("audio.bytes")).data_page_offset for group in groups]
    content[pages[1] : pages[1] + 30] = b"\xff" * 30  # the header of the second row group's page
    sound = content.index(b"RIFF", pages[2])
    content[sound : sound + 40] = bytes(40)  # one clip's own header
    parquet.write_bytes(content)
    assert voicebench(folder, folder / "p.jsonl", "--max_error_rate", "0.5") == 0
    result = lines(folder / "p.jsonl")
    assert [n for n, line in enumerate(result) if "error" in line] == [3, 4, 5, 6]
    assert all(bool(line["response"]) != ("error" in line) for line in result)
    assert f"{parquet} row group 1, row 2: not readable (" in result[5]["error"]
    assert "audio of item 7: not readable as audio" in result[6]["error"]
    assert capsys.readouterr().err.count("no answer: ") == 4


def test_voicebench_one_file_and_what_is_missing(folder, echo, capsys):
    write_lines(folder / "one.jsonl", [{"audio_path": "clip0.wav"}])
    one = [*MODEL, "--data_path", str(folder / "one.jsonl"), "--output_json", str(folder / "o.jsonl")]
    assert inference_stage2_voicebench.main(one) == 0
    assert len(lines(folder / "o.jsonl")) == 1
    with pytest.raises(SystemExit):
        inference_stage2_voicebench.main([*one, "--data", "bbh", "mmsu"])
    assert "must be folders" in capsys.readouterr().err
    flags = [*MODEL, "--data_path", str(folder / "v"), "--output_json"]
    write_lines(folder / "v" / "sd-qa" / "test.jsonl", [{"prompt": "q", "audio": "../../clip0.wav"}])
    assert inference_stage2_voicebench.main([*flags, str(folder / "s"), "--data", "sd-qa"]) == 0
    assert [list(line) for line in lines(folder / "s" / "diffa_upstream-sd-qa-test-audio.jsonl")] == [
        ["prompt", "response"]
    ]
    file = write_lines(folder / "v" / "bbh" / "test.jsonl", [{"audio": "../clip0.wav"}, {"audio": 3}])
    file.write_text(file.read_text() + "\n{oops\n{}\n")
    assert inference_stage2_voicebench.main([*flags, str(folder / "s"), "--data", "bbh"]) == 2
    error = capsys.readouterr().err
    for message in (
        "2: no `audio` that names a file, found 3",
        "4: not JSON",
        "5: no `audio` that names a file, found N",
    ):
        assert f"bbh/test.jsonl line {message}" in error
    assert inference_stage2_voicebench.main([*flags, str(folder / "o"), "--split", "dev"]) == 2
    assert "holds neither dev-*.parquet nor dev.jsonl" in capsys.readouterr().err
    (folder / "v" / "alpacaeval").mkdir()
    (folder / "v" / "alpacaeval" / "test.parquet").write_text("no")
    assert inference_stage2_voicebench.main([*flags, str(folder / "p")]) == 2
    assert "is not a Parquet file" in capsys.readouterr().err


def test_voicebench_output_of_any_name_is_scored(folder, echo, capsys):
    write_lines(folder / "v" / "openbookqa" / "test.jsonl", [{"audio": "../../clip0.wav", "reference": "A"}])
    flags = [*MODEL, "--data_path", str(folder / "v" / "openbookqa" / "test.jsonl"), "--output_json"]
    (folder / "x.json").touch()
    assert inference_stage2_voicebench.main([*flags, str(folder / "x.json")]) == 0
    assert evaluate_voicebench([str(folder / "x.json")]) == 0
    assert inference_stage2_voicebench.main([*flags, str(folder / "out")]) == 0
    assert evaluate_voicebench([str(folder / "out")]) == 0
    assert capsys.readouterr().out.count("voicebench openbookqa (mcq): ") == 2
    meta = folder / "x.json.meta.json"
    told = json.loads(meta.read_text())
    assert (told.pop("subset"), told.pop("split")) == ("openbookqa", "test")
    meta.write_text(json.dumps(told))  # as an earlier version wrote it
    assert inference_stage2_voicebench.main([*flags, str(folder / "x.json")]) == 0
    assert "1 of 1 items answered before" in capsys.readouterr().out
