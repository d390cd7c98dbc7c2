"""What perf/gpu.py measured, as tables: on the screen, and as docs/gpu.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.scoring import format_table

TITLES = {
    "golden": "Against the published code's numbers",
    "training": "Training the miniature: this machine's GPU against its CPU",
    "decoding": "Decoding at LLaDA-8B's shape",
    "steps": "Training updates at LLaDA-8B's shape",
    "feeding": "Feeding: what the CPU reads and transforms, what the GPU hears",
}
# By the beginning of a row's name: the table it stands in, and that table's columns.
ANSWER = (
    "seconds", "seconds_a_step", "passes", "answers_a_second", "tokens_a_second", "share_of_products", "share_of_floor",
    "peak_gigabytes",
)  # fmt: skip
ROUNDED = ("seconds", "seconds_bf16", "gigabytes")
PROFILE = ("kernels", "launches", "waits", "copies_to_host", "busy_milliseconds", "gap_milliseconds", "idle_share")
COLUMNS = {
    "answer": ANSWER,
    "graphs": ("seconds", "seconds_without", "ratio", "ok"),
    "int8": ROUNDED,
    "int4": ROUNDED,
    "pass": ("seconds", "first_seconds"),
    "profile": PROFILE,
}
NOTES = {
    "golden": "float32 without TF32; the largest error is relative to the largest number of a tensor.",
    "training": "The mean loss of the first updates, each stage under DeepSpeed ZeRO-1, one process a GPU, against "
    "the CPU's in the same number format without DeepSpeed. Stages 2 and 3 have dropout, which no two devices draw "
    "alike; stage 4 is run without.",
    "decoding": "Random weights in bf16, the encoder not counted. The floor is the time that an answer's products take "
    "at the speed of a large product or, where that is longer, reading the weights once a pass at the speed of a large "
    "copy. `dual_parallel` fixes four tokens a pass. `int8` and `int4`: the same answers with rounded weights, which "
    "take so many gigabytes.",
    "steps": "Clips as long as the window and 150 text tokens; forward and backward, twice where it says x 2 "
    "(accumulation), clipping, AdamW. A pair of stage 4 is two texts, each in four draws, past the policy and the "
    "reference. Arithmetic: training.md, Memory.",
    "feeding": "Clips as long as the window.",
}


def tables_of(result: Mapping[str, Any]) -> list[tuple[str, str, list[list[str]]]]:
    """Title, note, and lines of each table, the header first."""
    tables = []
    for part, title in TITLES.items():
        if part not in result["parts"]:
            continue
        content, note = result["parts"][part], NOTES[part]
        groups: dict[str, dict[str, Any]] = {}
        for name, figures in content["rows"].items():
            kind = name.partition(",")[0].partition(":")[0].split()[0]
            groups.setdefault(kind if kind in COLUMNS else "", {})[name] = figures
        for kind, rows in groups.items():
            tables.append((title, note, lines_of(rows, COLUMNS.get(kind))))
            title, note = "", ""
        if "failed" in content:
            tables.append((title, note, [["the part failed"], [content["failed"]]]))
    return tables


def lines_of(rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str] | None) -> list[list[str]]:
    """A table's lines; without columns, those that its rows have. What stands in for figures goes into the last one."""
    if columns is None:
        columns = dict.fromkeys(name for figures in rows.values() for name in figures)
        columns = [name for name in columns if name not in ("failed", "skipped", "took")]
    remarks = {name: remark_of(figures) for name, figures in rows.items()}
    header = ["", *(column.replace("_", " ") for column in columns)] + ([" "] if any(remarks.values()) else [])
    lines = [header]
    for name, figures in rows.items():
        line = [name, *(cell(column, figures.get(column)) for column in columns)]
        lines.append(line + [remarks[name]] * (len(header) - len(line)))
    return lines


def remark_of(figures: Mapping[str, Any]) -> str:
    if "failed" in figures:
        return f"failed: {figures['failed'].splitlines()[-1]}"
    return figures.get("skipped", "")


def cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        if column.startswith(("share", "difference", "idle", "worst_step")):
            return f"{value:.1%}"
        return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {cell(column, item)}" for key, item in value.items())
    return str(value)


def feeding_line(result: Mapping[str, Any]) -> str:
    """The CPU's clips a second beside what the GPU takes, if both were measured."""
    rows = {part: content["rows"] for part, content in result["parts"].items()}
    made = {name: row["clips_a_second"] for name, row in rows.get("feeding", {}).items() if "clips_a_second" in row}
    made = {name: rate for name, rate in made.items() if name.startswith("both")}
    taken = {name: row["clips_a_second"] for name, row in rows.get("steps", {}).items() if "clips_a_second" in row}
    answers = {
        name: row["answers_a_second"] for name, row in rows.get("decoding", {}).items() if "answers_a_second" in row
    }
    if not made or not taken | answers:
        return ""
    fastest = max(answers, key=answers.get) if answers else ""
    wanted = [f"training takes {rate:.3g} clips a second ({name})" for name, rate in taken.items()]
    wanted += [f"decoding at most {answers[fastest]:.3g} ({fastest})"] if answers else []
    return f"The CPU makes {', '.join(f'{r:.3g} clips a second ({n})' for n, r in made.items())}; {'; '.join(wanted)}."


def text_of(result: Mapping[str, Any]) -> str:
    """For the screen."""
    blocks = [" | ".join(f"{name} {value}" for name, value in result["run"].items())]
    for title, _, (header, *lines) in tables_of(result):
        blocks.append((f"{title}\n\n" if title else "") + format_table(header, lines))
    return "\n\n".join(filter(None, [*blocks, feeding_line(result)]))


def document_of(result: Mapping[str, Any]) -> str:
    """docs/gpu.md."""
    run = result["run"]
    blocks = [
        "# On a GPU",
        "Written by `python perf/gpu.py --write_docs gpu_out/gpu.json docs/gpu.md` from what `bash perf/gpu.sh`\n"
        "measured: whether a machine is set up right, how fast it is, and what fits.",
        "\n".join(["| | |", "| --- | --- |", *(f"| {name.replace('_', ' ')} | {v} |" for name, v in run.items())]),
    ]
    for title, note, (header, *lines) in tables_of(result):
        if title:
            blocks += [f"## {title}", note]
        blocks.append("\n".join(
            [f"| {' | '.join(header)} |", "|" + " --- |" * len(header)]
            + [f"| {' | '.join(text.replace(chr(10), ' ').replace('|', '/') for text in line)} |" for line in lines]
        ))  # fmt: skip
    return "\n\n".join(filter(None, [*blocks, feeding_line(result)])) + "\n"
