"""Other forms in which a benchmark's records and answers are published, brought to the one that is read here.

MMAU is a JSON file in its authors' repository, and Parquet on the hub, with other names and labelled choices;
lmms-eval's copies have the choices as JSON text. lmms-eval logs an answer beside the number of its question. All
functions leave a record that has the form already as it is.
"""

import json
import string
from collections.abc import Mapping, Sequence

from evaluation.offered import without_labels
from evaluation.result_files import BenchmarkFileError

SOUND_TASKS = ("audio_grounding", "vocal_sound", "acoustic_scene", "sound_aqa")  # of AIR-Bench, in lower case
SPOKEN_QUESTIONS = {  # of Big Bench Audio, by category, in short
    "formal_fallacies": "Is the argument, given its premises, deductively valid or invalid?",
    "navigate": "Does one who follows the instructions return to the starting point?",
    "object_counting": "How many of these things are there?",
    "web_of_lies": "Does the last person tell the truth?",
}
LOGGED = "filtered_resps"  # lmms-eval's field with the answer, as its own scorers read it


def mmsu_form(record: Mapping) -> dict:
    """MMSU: the hub's Parquet has the audio inside, and may not name it."""
    named = {} if record.get("audio_path") else {"audio_path": f"{record.get('id')}.wav"}
    return {**record, **named}


def mmau_form(record: Mapping) -> dict:
    """MMAU: the hub's records have `instruction` for the question, and all else in `other_attributes`, a JSON text.

    Their choices and answers are labelled, "(A) Man", those of the authors' file are not; scores are of the latter.
    """
    attributes = as_json(record.get("other_attributes"))
    new = {name: value for name, value in record.items() if name != "other_attributes"}
    for name, value in (attributes if isinstance(attributes, dict) else {}).items():
        new.setdefault(name, value[0] if isinstance(value, list) and len(value) == 1 else value)
    if "question" not in new and "instruction" in new:
        new["question"] = new.pop("instruction")
    new = mmar_form(new, labelled="other_attributes" in record)
    if "id" in new and not new.get("audio_id"):
        new["audio_id"] = f"./{new.get('split') or 'test-mini'}-audios/{new['id']}.wav"
    return new


def mmar_form(record: Mapping, labelled: bool = False) -> dict:
    """Choices that are a JSON text become a list, as in lmms-eval's data sets.

    Labels that all choices bring stay, unless `labelled` says that they are not the authors', or the answer is a label.
    """
    choices, answer = as_json(record.get("choices")), record.get("answer")
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        return {**record, "choices": choices} if "choices" in record else dict(record)
    bare, letter = without_labels(choices), str(answer).strip(" ().")
    by_letter = dict(zip(string.ascii_uppercase, bare, strict=False))
    if bare == choices or not (labelled or letter in by_letter):
        return {**record, "choices": choices}
    right = bare[choices.index(answer)] if answer in choices else by_letter.get(letter, answer)
    return {**record, "choices": bare} | ({"answer": right} if "answer" in record else {})


def mmau_pro_form(record: Mapping) -> dict:
    """MMAU-Pro: a question about several clips is asked about the first alone."""
    paths = record.get("audio_path")
    return {**record, "audio_path": paths[0]} if isinstance(paths, list) and paths else dict(record)


def airbench_form(record: Mapping) -> dict:
    """AIR-Bench foundation: where the audio lies, the task as its scorer counts it, and sound, speech or music.

    Times to choose from, of its grounding tasks, may be lists; they are compared as texts.
    """
    new = {
        name: str(value) if name.startswith(("choice_", "answer_gt")) and value is not None else value
        for name, value in record.items()
    }
    task, path = record.get("task_name"), record.get("path")
    if not isinstance(task, str):
        return new
    new.setdefault("task_id", f"{task}_{record['dataset_name']}" if record.get("dataset_name") else task)
    name = task.lower()
    heard = "music" if "music" in name else "sound" if any(word in name for word in SOUND_TASKS) else "speech"
    new.setdefault("modality", heard)
    if not new.get("audio_path"):
        path = f"{path}"[:-3] + "flac" if task == "Audio_Grounding" else path  # where the benchmark's file says wav
        new["audio_path"] = f"{new['task_id']}/{path}" if path else f"{record.get('uniq_id')}.wav"
    return new


def big_bench_audio_form(record: Mapping) -> dict:
    """Big Bench Audio: what a judge is told, since the file has no transcripts, and where the audio lies."""
    new = {"file_name": f"data/question_{record.get('id')}.mp3", **record}
    new.setdefault("prompt", SPOKEN_QUESTIONS.get(str(record.get("category")), "A question that was spoken."))
    if "official_answer" in record:
        new.setdefault("reference", record["official_answer"])
    return new


def as_json(value: object) -> object:
    """What a text holds that is JSON; any other value as it is."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


# --- lmms-eval's logs ----------------------------------------------------------------------------------------------


def is_logged(record: Mapping) -> bool:
    """Whether a record is a line of an lmms-eval log (`--log_samples`)."""
    return "doc_id" in record and LOGGED in record


def from_log(record: Mapping, answer_field: str) -> dict:
    """The question, where the log has it, and the answer; `doc_id` stays in place of a question that is not there."""
    answer = record[LOGGED]
    while isinstance(answer, list) and answer:
        answer = answer[0]
    told = [record.get("doc"), record.get("submission")]  # the latter of MMAU, with a letter drawn where none was read
    question = next((found for found in told if isinstance(found, dict)), {"doc_id": record["doc_id"]})
    return {**question, answer_field: answer}


def with_questions(path: object, records: Sequence[dict], questions: Sequence[dict] | None) -> list[dict]:
    """Records of a log, each with the question of its number where it brings none.

    Raises BenchmarkFileError without questions, and for a number that is none of theirs.
    """
    numbered = [record for record in records if "doc_id" in record]
    if numbered and questions is None:
        raise BenchmarkFileError(
            f"{path}: a log of lmms-eval without questions. Pass the benchmark's own file with --reference"
        )
    strangers = [record["doc_id"] for record in numbered if not 0 <= record["doc_id"] < len(questions)]
    if strangers:
        raise BenchmarkFileError(
            f"{path}: doc_id {strangers[0]} is past the {len(questions)} items of the reference. Is "
            "it the same split? Pass its own"
        )
    return [
        {**questions[record["doc_id"]], **{n: v for n, v in record.items() if n != "doc_id"}}
        if "doc_id" in record
        else record
        for record in records
    ]
