"""The benchmarks, each described once. What answers, scores, reports and draws them reads this table.

A new benchmark is an entry here, a script that answers it and a script that scores it (CONTRIBUTING.md, "A benchmark").
Light imports only: scorers read the table, and do not wait for PyTorch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.benchmark import AnswerSettings, Benchmark
from evaluation.offered import without_labels
from evaluation.official_rules import airbench_rule, mmau_rule, mmsu_leaves_out, mmsu_letter, mmsu_rule
from evaluation.published_forms import (
    airbench_form,
    big_bench_audio_form,
    mmar_form,
    mmau_form,
    mmau_pro_form,
    mmsu_form,
)
from src.generation_options import TRANSCRIPT

MAX_CHOICES = 26  # one for each letter

# --- MMSU ----------------------------------------------------------------------------------------------------------


def mmsu_choices(record: Mapping) -> list[str | None]:
    return [record.get(f"choice_{letter}") for letter in "abcd"]


def mmsu_problem(record: Mapping) -> str:
    found = [choice for choice in mmsu_choices(record) if choice is not None]
    if len(found) >= 2 and all(isinstance(choice, str) for choice in found):
        return ""
    return f"choice_a to choice_d must be texts, two at least, or null, found {mmsu_choices(record)!r:.100}"


def mmsu_prompt(record: Mapping) -> str:
    from src.prompts import mmsu_instruction

    return mmsu_instruction(record["question"], mmsu_choices(record))


MMSU = Benchmark(
    name="mmsu",
    title="MMSU",
    items=5000,
    file="mmsu/mmsu.jsonl",
    source="Pass MMSU's question file with --input; it comes with the data set ddwang2000/MMSU on the Hugging Face hub",
    required={"id": (str, int), "audio_path": str, "question": str, "answer_gt": str},
    form=mmsu_form,
    problem=mmsu_problem,
    audio="audio_path",
    prompt=mmsu_prompt,
    settings={"diffa": AnswerSettings(4, 4, 4), "diffa2": AnswerSettings(16, 16, 16)},
    answer_fields=("response",),
    key=lambda record: str(record["id"]),
    choices=mmsu_choices,
    answer="answer_gt",
    official=mmsu_rule,
    leaves_out=mmsu_leaves_out,
    columns=("official (DIFFA's)", "official (authors')"),
    levels=("category", "sub-category", "sub-sub-category", "linguistics_sub_discipline", "task_name"),
    first_level="category",
)


# --- MMAU ----------------------------------------------------------------------------------------------------------


def mmau_problem(record: Mapping) -> str:
    choices, answer = record.get("choices"), record.get("answer")
    if answer is not None and not isinstance(answer, str):
        return f"answer must be str, found {answer!r:.60}"
    if isinstance(choices, list) and len(choices) > MAX_CHOICES:
        return f"choices must be at most {MAX_CHOICES}, one a letter, found {len(choices)}"
    if isinstance(choices, list) and {str} <= {type(choice) for choice in choices} <= {str, type(None)}:
        return ""
    return f"choices must be a list of texts, or null among them, found {choices!r:.100}"


def mmau_prompt(record: Mapping) -> str:
    """Choices that all bring a letter lose it: the prompt gives one."""
    from src.prompts import mmau_instruction

    return mmau_instruction(record["question"], without_labels(record["choices"]))


def mmau_key(record: Mapping) -> str:
    """The record's `id`; without one, the audio and the question (one clip may be asked about more than once)."""
    return str(record["id"]) if "id" in record else f"{record['audio_id']} {record.get('question', '')}".strip()


MMAU = Benchmark(
    name="mmau",
    title="MMAU",
    items=1000,  # of test-mini; those of the test set are not scored here
    file="mmau/mmau-test-mini.json",
    source="Pass mmau-test-mini.json with --input; it and its audio come from github.com/Sakshi113/MMAU",
    required={"audio_id": str, "question": str},
    form=mmau_form,
    problem=mmau_problem,
    audio="audio_id",
    prompt=mmau_prompt,
    settings={"diffa": AnswerSettings(16, 16, 16), "diffa2": AnswerSettings(16, 16, 16)},
    answer_fields=("model_output", "model_prediction"),
    withheld="MMAU's authors score it: upload it to https://huggingface.co/spaces/sonalkum/MMAU-Eval",
    as_list=True,
    key=mmau_key,
    choices=lambda record: record["choices"],
    answer="answer",
    official=mmau_rule,
    levels=("task", "difficulty", "sub-category"),
    first_level="task",
)

# --- MMAR ----------------------------------------------------------------------------------------------------------

MMAR = Benchmark(
    name="mmar",
    title="MMAR",
    items=1000,
    file="mmar/MMAR-meta.json",
    form=mmar_form,
    source="Pass MMAR-meta.json with --input; it and its audio come with BoJack/MMAR on the Hugging Face hub",
    required={"id": str, "audio_path": str, "question": str, "answer": str},
    problem=mmau_problem,
    audio="audio_path",
    prompt=mmau_prompt,
    settings={"diffa": AnswerSettings(16, 16, 16), "diffa2": AnswerSettings(16, 16, 16)},
    answer_fields=("answer_prediction", "model_prediction", "model_output"),
    as_list=True,
    key=lambda record: str(record["id"]),
    choices=lambda record: record["choices"],
    answer="answer",
    official=mmau_rule,
    levels=("modality", "category", "sub-category"),
    first_level="modality",
)

# --- MMAU-Pro ------------------------------------------------------------------------------------------------------

MMAU_PRO_OTHERS = ("open", "instruction following")  # categories without choices


def is_mmau_pro_choice(record: Mapping) -> bool:
    choices = record.get("choices")
    none_to_choose = not choices or (isinstance(choices, list) and len(choices) == 1)
    return record.get("category") not in MMAU_PRO_OTHERS and not none_to_choose


def mmau_pro_problem(record: Mapping) -> str:
    if is_mmau_pro_choice(record) and not isinstance(record.get("answer"), str):
        return f"answer must be str, found {record.get('answer')!r:.60}"
    return mmau_problem(record) if is_mmau_pro_choice(record) else ""


MMAU_PRO = Benchmark(
    name="mmaupro",
    title="MMAU-Pro, choices",
    file="mmaupro/test.parquet",
    source="Pass test.parquet with --input; it and its audio, data.zip, come with gamma-lab-umd/MMAU-Pro on the "
    "Hugging Face hub",
    required={"id": (str, int), "audio_path": str, "question": str, "category": str},
    form=mmau_pro_form,
    problem=mmau_pro_problem,
    audio="audio_path",
    prompt=lambda record: mmau_prompt(record) if is_mmau_pro_choice(record) else record["question"],
    settings={"diffa": AnswerSettings(16, 16, 16), "diffa2": AnswerSettings(16, 16, 16)},
    settings_of="MMAU",
    answer_fields=("model_output",),
    key=lambda record: str(record["id"]),
    choices=lambda record: record["choices"] if is_mmau_pro_choice(record) else [],
    answer="answer",
    is_scored=is_mmau_pro_choice,
    no_official=(
        "its authors take the choice that NV-Embed-v2 finds closest to the answer: give the .parquet file beside the "
        "answers to evaluate_mmau_pro_comprehensive.py of github.com/sonalkum/MMAUPro"
    ),
    levels=("category", "length_type", "sub-cat"),
    first_level="category",
)

# --- AIR-Bench -----------------------------------------------------------------------------------------------------


def airbench_prompt(record: Mapping) -> str:
    from src.prompts import airbench_instruction

    return airbench_instruction(record["question"], mmsu_choices(record))


AIRBENCH = Benchmark(
    name="airbench",
    title="AIR-Bench foundation",
    file="airbench/Foundation/Foundation_meta.json",
    source="Pass Foundation_meta.json with --input; it comes with qyang1021/AIR-Bench-Dataset on the Hugging Face hub",
    required={"uniq_id": (str, int), "audio_path": str, "question": str, "answer_gt": str, "task_name": str},
    form=airbench_form,
    problem=mmsu_problem,
    audio="audio_path",
    prompt=airbench_prompt,
    settings={"diffa": AnswerSettings(4, 4, 4), "diffa2": AnswerSettings(16, 16, 16)},
    settings_of="MMSU",
    answer_fields=("response",),
    key=lambda record: str(record["uniq_id"]),
    choices=mmsu_choices,
    answer="answer_gt",
    official=airbench_rule,
    leaves_out=lambda answer: not isinstance(answer, str) or mmsu_letter(answer) is None,
    columns=("official (all items)", "official"),
    published_rate="official_decided",
    levels=("modality", "task_name", "task_id"),
    first_level="modality",
)


# --- VoiceBench ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subset:
    """One of VoiceBench's subsets."""

    rule: str  # VoiceBench's name for how it is scored
    ranked: bool = True  # whether the overall score of the leaderboard has it
    splits: Sequence[str] = ("test",)
    items: int = 0  # of the subset on the hub (wildvoice's and bbh's as Ultravox counts them); of sd-qa, of one region


REGIONS = ("aus", "gbr", "ind_n", "ind_s", "irl", "kenya", "nga", "nzl", "phl", "usa", "zaf")
DOMAINS = (
    "biology", "business", "chemistry", "economics", "engineering", "health", "history", "law", "other", "philosophy",
    "physics", "psychology",
)  # fmt: skip
SUBSETS = {
    "alpacaeval": Subset("open", items=199),
    "commoneval": Subset("open", items=200),
    "wildvoice": Subset("open", items=1000),
    "sd-qa": Subset("qa", splits=(*REGIONS, "test"), items=553),
    "mmsu": Subset("mcq", splits=(*DOMAINS, "test"), items=3074),
    "openbookqa": Subset("mcq", items=455),
    "bbh": Subset("bbh", items=1000),
    "ifeval": Subset("ifeval", items=345),
    "advbench": Subset("harm", items=520),
    "alpacaeval_full": Subset("open", ranked=False, items=636),
}
LEADERBOARD = tuple(name for name, subset in SUBSETS.items() if subset.ranked)
FULL = (
    "alpacaeval_full"  # what VoiceBench's leaderboard has in the column alpacaeval; the subset of that name is smaller
)
LEADERBOARD_SUBSETS = tuple(FULL if name == "alpacaeval" else name for name in LEADERBOARD)
VOICEBENCH_IDS = ("id", "key", "question_id")


def voicebench_prompt(record: Mapping) -> str:
    from src.prompts import VOICEBENCH_PROMPT

    return VOICEBENCH_PROMPT


def voicebench_key(record: Mapping) -> str:
    for name in VOICEBENCH_IDS:
        if record.get(name) is not None:
            return str(record[name])
    raise KeyError(VOICEBENCH_IDS[0])


VOICEBENCH = Benchmark(
    name="voicebench",
    title="VoiceBench",
    file="voicebench",  # a folder of the subsets' folders
    source="It comes with the data set hlt-lab/voicebench on the Hugging Face hub; pass the copy's folder with --input",
    required={},
    audio="audio",
    prompt=voicebench_prompt,
    settings={"diffa": AnswerSettings(16, 16, 16), "diffa2": AnswerSettings(16, 16, 16)},
    answer_fields=("response",),
    key=voicebench_key,
    levels=("domain", "category", "split"),
)


# --- Big Bench Audio -----------------------------------------------------------------------------------------------

# The kinds of its questions, and what their answers are; none: a number.
BIG_BENCH_AUDIO_ANSWERS = {
    "formal_fallacies": ("valid", "invalid"),
    "navigate": ("yes", "no"),
    "object_counting": (),
    "web_of_lies": ("yes", "no"),
}


def big_bench_audio_problem(record: Mapping) -> str:
    category, answer = record.get("category"), str(record.get("official_answer")).strip().lower()
    if not isinstance(category, str) or category not in BIG_BENCH_AUDIO_ANSWERS:
        return f"category must be one of {', '.join(BIG_BENCH_AUDIO_ANSWERS)}, found {category!r:.60}"
    answers = BIG_BENCH_AUDIO_ANSWERS[category]
    if answer in answers or (not answers and answer.isdecimal()):
        return ""
    wanted = " or ".join(answers) or "a number"
    return f"official_answer of {category} must be {wanted}, found {record.get('official_answer')!r:.60}"


BIG_BENCH_AUDIO = Benchmark(
    name="bigbenchaudio",
    title="Big Bench Audio",
    items=1000,
    file="bigbenchaudio/metadata.jsonl",
    source="Pass metadata.jsonl with --input; it comes with ArtificialAnalysis/big_bench_audio on the Hugging Face hub",
    required={"id": (int, str), "file_name": str, "category": str, "official_answer": str},
    form=big_bench_audio_form,
    problem=big_bench_audio_problem,
    audio="file_name",
    prompt=voicebench_prompt,  # these questions are spoken as well
    settings={"diffa": AnswerSettings(16, 16, 16), "diffa2": AnswerSettings(16, 16, 16)},
    settings_of="VoiceBench",
    answer_fields=("response",),
    key=lambda record: str(record["id"]),
    answer="official_answer",
    no_official=(
        "it takes a judge's verdict on every answer: python voicebench/judge.py RESULT --evaluator qa "
        "--base_url URL --model NAME"
    ),
    columns=("official (a judge's)", ""),
    levels=("category",),
    first_level="category",
)


# --- speech recognition --------------------------------------------------------------------------------------------


def asr_prompt(record: Mapping) -> str:
    from src.prompts import ASR_PROMPT

    return ASR_PROMPT


ASR = Benchmark(
    name="asr",
    title="ASR",
    file="",
    source="Pass a manifest with --input: a JSON list or JSON Lines of audio_filepath and transcription",
    required={"audio_filepath": str, "transcription": str},
    audio="audio_filepath",
    prompt=asr_prompt,
    settings={"diffa": AnswerSettings(**TRANSCRIPT), "diffa2": AnswerSettings(128, 128, 128)},
    answer_fields=("response",),
    key=lambda record: str(record["audio_id"] if "audio_id" in record else record["audio_filepath"]),
    answer="transcription",
)

IN_ORDER = (MMSU, MMAU, MMAU_PRO, MMAR, AIRBENCH, VOICEBENCH, BIG_BENCH_AUDIO, ASR)  # of the report
BENCHMARKS = {benchmark.name: benchmark for benchmark in IN_ORDER}
