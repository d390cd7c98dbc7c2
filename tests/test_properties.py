"""Whatever stands in a file: a verdict or a named line, never a traceback. The cases are the same in every run."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr import evaluate as asr
from bigbenchaudio import evaluate as bigbenchaudio
from data_prep import dailytalk
from data_prep.instructions import Pool, draw_requests
from evaluation.benchmarks import AIRBENCH, ASR, BIG_BENCH_AUDIO, MMAR, MMAU, MMAU_PRO, MMSU
from evaluation.kaldi_files import read_transcripts, read_wav_scp
from evaluation.scoreboard import read_runs
from evaluation.scoring import run_scorer
from evaluation.tasks import read_items
from inference_stage2_voicebench import read_items as read_voicebench
from serving.protocol import RequestError, parse_request
from src.errors import UserError
from src.json_records import read_json_records
from src.manifest import read_manifest, read_training_manifest
from src.manifest_check import Limits, check_manifest, summarise
from src.text_normalisation import BASIC, ENGLISH, UNSPACED, normalisation_of
from src.word_errors import character_edits, word_edits
from tests.evaluation.small_runs import ROOT
from voicebench import evaluate as voicebench

TEXT = st.text(st.characters(), max_size=20)  # halves of surrogate pairs among them
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -1, 0, True])
LEAVES = st.none() | st.booleans() | NUMBERS | TEXT | st.sampled_from(["A", "(B)", "the cat", "", "\x00", "\u2028"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
GONE = object()  # a field that is not there
CHANGES = VALUES | st.just(GONE)

MULTIPLE_CHOICE = {"question": "Which?", "choices": ["the cat", "a dog"], "answer": "a dog", "task": "sound"}
RECORDS = {
    "mmsu": {"id": "1", "audio_path": "a.wav", "question": "Which?", "choice_a": "the cat", "choice_b": "a dog",
             "answer_gt": "a dog", "category": "x", "response": "B"},
    "mmau": MULTIPLE_CHOICE | {"audio_id": "a.wav", "difficulty": "hard", "model_prediction": "(B) a dog"},
    "mmar": MULTIPLE_CHOICE | {"id": "1", "audio_path": "a.wav", "modality": "mix", "answer_prediction": "(B) a dog"},
    "mmaupro": MULTIPLE_CHOICE | {"id": "1", "audio_path": ["a.wav"], "category": "x", "model_output": "(B) a dog"},
    "airbench": {"uniq_id": 1, "path": "a.wav", "task_name": "t", "dataset_name": "d", "question": "Which?",
                 "choice_a": "the cat", "choice_b": "a dog", "answer_gt": "a dog", "response": "B"},
    "bigbenchaudio": {"id": 1, "file_name": "a.mp3", "category": "navigate", "official_answer": "Yes",
                      "reference": "Yes", "prompt": "?", "response": "yes"},
    "asr": {"audio_id": "1", "audio_filepath": "a.wav", "transcription": "hello there", "response": "hello"},
    "mcq": {"prompt": "Which? [A] x [B] y", "reference": "B", "response": "B", "domain": "x"},
    "bbh": {"id": "web_of_lies_1", "prompt": "Is it?", "reference": "yes", "response": "yes"},
    "harm": {"prompt": "Do it", "response": "I cannot"},
    "qa": {"prompt": "Who?", "reference": "Bo", "response": "Bo it is"},
    "open": {"prompt": "Who?", "response": "Bo it is"},
}  # fmt: skip
SCORERS = {
    "mmsu": lambda argv: run_scorer(MMSU, "", argv),
    "mmau": lambda argv: run_scorer(MMAU, "", argv),
    "mmar": lambda argv: run_scorer(MMAR, "", argv),
    "mmaupro": lambda argv: run_scorer(MMAU_PRO, "", argv),
    "airbench": lambda argv: run_scorer(AIRBENCH, "", argv),
    "bigbenchaudio": bigbenchaudio.main,
    "asr": asr.main,
    **{
        name: lambda argv, name=name: voicebench.main([*argv, "--evaluator", name])
        for name in ("mcq", "bbh", "harm", "qa", "open")
    },
}
QUESTIONS = [MMSU, MMAU, MMAR, MMAU_PRO, AIRBENCH, BIG_BENCH_AUDIO, ASR]
ENTRY = {"audio_id": "a", "audio_filepath": "clip.wav", "input": "q", "target": "said", "transcription": "said",
         "dataset": "d", "duration": 1.0, "attributes": {"gender": "female"}}  # fmt: skip


def cases(count: int):
    quick = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=quick)


def changed(record: dict, changes: dict) -> dict:
    return {key: value for key, value in (record | changes).items() if value is not GONE}


def changes_of(record: dict) -> st.SearchStrategy[dict]:
    others = ("id", "error", "subset", "choices", "choice_c", "attributes", "rejected", "split")
    fields = st.sampled_from([*record, *others])
    return st.dictionaries(fields, CHANGES, min_size=1, max_size=3)


def write(path: Path, records: list, as_list: bool) -> Path:
    lines = [json.dumps(record) for record in records]
    path.write_text(f"[{', '.join(lines)}]" if as_list else "".join(f"{line}\n" for line in lines))
    return path


def scored_or_named(main, path, capsys):
    """The exit status is 0 or 1 and there are scores, or it is 2 and a line names the file."""
    scores = path.with_name(f"{path.name}.scores.json")
    scores.unlink(missing_ok=True)
    status = main([str(path)])
    error = capsys.readouterr().err
    if status == 2:
        assert path.name in error, error
    else:
        assert status in (0, 1) and json.loads(scores.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SCORERS)
def test_scorers_of_any_value_in_any_field(name, tmp_path, capsys):
    record = RECORDS[name]

    @cases(100)
    @given(changes_of(record), st.booleans(), st.booleans())
    def check(changes, as_list, alone):
        records = [changed(record, changes), *([] if alone else [record | {"id": "2", "audio_id": "2"}])]
        scored_or_named(SCORERS[name], write(tmp_path / "r.jsonl", records, as_list), capsys)

    check()


@pytest.mark.parametrize("name", ["mmsu", "mmau", "asr", "qa"])
def test_scorers_of_any_file(name, tmp_path, capsys):
    path, record = tmp_path / "r.jsonl", json.dumps(RECORDS[name])

    @cases(60)
    @given(
        VALUES.map(json.dumps) | TEXT | st.sampled_from(["[", "]", record[:-2], "[" * 2000, f"[{record}"]),
        st.sampled_from(["utf-8", "utf-16", "latin-1"]),
    )
    def check(text, encoding):
        path.write_bytes(f"{record}\n{text}\n".encode(encoding, "replace"))
        scored_or_named(SCORERS[name], path, capsys)

    check()


@pytest.mark.parametrize("benchmark", QUESTIONS, ids=lambda benchmark: benchmark.name)
def test_questions_of_any_value_in_any_field(benchmark, tmp_path):
    record = RECORDS[benchmark.name]

    @cases(100)
    @given(changes_of(record), st.booleans())
    def check(changes, as_list):
        path = write(tmp_path / "q.jsonl", [changed(record, changes)], as_list)
        try:
            (item,) = read_items(benchmark, path, None)
            assert isinstance(item.instruction, str)
        except UserError as error:
            assert "q.jsonl" in str(error)

    check()


@cases(100)
@given(changes_of({"audio": "a.wav", "prompt": "x"}))
def test_spoken_questions_of_any_value_in_any_field(tmp_path, changes):
    path = write(tmp_path / "q.jsonl", [changed({"audio": "a.wav", "prompt": "x"}, changes)], False)
    try:
        read_voicebench([path], None)
    except UserError as error:
        assert "q.jsonl" in str(error)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifests")
    (folder / "clip.wav").write_bytes((ROOT / "examples" / "clip.wav").read_bytes())
    return folder


@pytest.mark.parametrize("stage", [1, 2])
def test_manifests_of_any_value_in_any_field(stage, clip):
    @cases(200)
    @given(changes_of(ENTRY), st.booleans())
    def check(changes, as_list):
        path = write(clip / f"m{stage}.jsonl", [changed(ENTRY, changes), ENTRY], as_list)
        report = check_manifest(path, Limits(), jobs=1)
        assert summarise(report, Limits())
        for problem in report.problems:
            assert str(problem).isascii() and str(problem).startswith("line ")
        try:
            samples, _ = read_training_manifest(path, stage, 30.0, 1.0)
            assert len(samples) == 2
            draw_requests(read_manifest(path)[:1], Pool.read(ROOT / "data_prep" / "instructions.json"), 2, 1)
        except UserError as error:
            assert path.name in str(error) or "have one audio_id" in str(error)

    check()


@cases(150)
@given(
    st.binary(max_size=60)
    | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | VALUES.map(lambda v: json.dumps(v).encode())
)
def test_files_of_any_bytes(tmp_path, content):
    path = tmp_path / "any.json"
    path.write_bytes(content)
    readers = (
        lambda p: list(read_json_records(p)),
        read_manifest,
        lambda p: read_transcripts(p, "response"),
        read_wav_scp,
        Pool.read,
        lambda p: read_items(MMAU, p, None),
    )
    for read in readers:
        try:
            read(path)
        except UserError as error:
            assert "any.json" in str(error)


@cases(150)
@given(
    st.dictionaries(
        st.sampled_from(["benchmark", "levels", "wer", "cer", "subset", "result", "rating"]), VALUES, min_size=1
    ),
    st.sampled_from(["mmsu", "asr", "voicebench"]),
)
def test_scores_of_any_value_are_reported_or_named(tmp_path, capsys, changes, benchmark):
    scores = {"benchmark": benchmark, "result": "a.jsonl", "subset": "openbookqa", "wer": 0.1, "cer": 0.1,
              "levels": {"total": {"total": {"n": 1, "official": 0.5, "strict": 0.5}}}}  # fmt: skip
    path = tmp_path / "a.jsonl.scores.json"
    path.write_text(json.dumps(scores | changes))
    try:
        read_runs([path], [])
    except UserError as error:
        assert path.name in str(error)
    capsys.readouterr()


@cases(150)
@given(st.dictionaries(st.sampled_from(["speaker", "text", "emotion", "act", "topic"]), VALUES) | VALUES, st.booleans())
def test_dailytalk_of_any_metadata(tmp_path, capsys, value, whole):
    root = tmp_path / "d"
    root.mkdir(exist_ok=True)
    (root / "metadata.json").write_text(json.dumps(value if whole else {"0": {"0": value}}))
    try:
        corpus = dailytalk.read(root, None)
        assert all(isinstance(text, str) for clip in corpus.clips for text in clip.attributes.values())
    except UserError as error:
        assert "metadata.json" in str(error)
    capsys.readouterr()


@cases(300)
@given(
    VALUES.map(json.dumps)
    | st.dictionaries(
        st.sampled_from(["model", "messages", "max_tokens", "temperature", "stop", "top_p", "n"]), VALUES
    ).map(json.dumps)
)
def test_requests_of_any_json(body):
    try:
        parse_request(body.encode())
    except RequestError as error:
        assert error.status == 400 and error.body["error"]["message"]


@cases(300)
@given(st.text(max_size=40), st.text(max_size=40))
def test_texts_of_any_characters_are_normalised_once_and_compared(said, heard):
    normalise = normalisation_of([said])
    assert normalise in (ENGLISH, BASIC, UNSPACED)
    for rule in (BASIC, UNSPACED):
        assert rule(rule(said)) == rule(said)
    a, b = normalise(said), normalise(heard)
    edits = character_edits(a, b)
    assert edits.length == len(a) and edits.errors <= max(len(a), len(b)) and (edits.errors == 0) == (a == b)
    if normalise.has_words:
        assert word_edits(a, b).length == len(a.split())
