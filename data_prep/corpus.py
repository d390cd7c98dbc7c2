"""What the corpus scripts share: clips as a corpus describes them become a manifest, and a second one to validate on.

A script reads its corpus's folders and text files into clips and calls `run`, which decodes the audio, leaves out what
cannot be trained on, splits by speaker and writes. Every script takes

    CORPUS_ROOT OUTPUT.json [--dev_fraction 0.02] [--seed 1] [--max_seconds 30] [--jobs 8]

and writes OUTPUT.json; with --dev_fraction also OUTPUT.dev.json, whose speakers are not in OUTPUT.json; and, if clips
were left out, OUTPUT.skipped.txt, which names each with the reason. The manifests' audio paths are relative where the
audio lies under the manifest's folder, else absolute.
"""

import argparse
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_prep.corpus_files import CorpusError, find_audio
from evaluation.result_files import BenchmarkFileError, answer_of, read_entries
from src.audio import AudioError
from src.configuration_DIFFA import WINDOW_SECONDS
from src.errors import is_unicode, reports_user_errors
from src.files import OutputError, check_outputs, write_file
from src.flag_types import fraction, positive_number, whole_number
from src.json_records import JSONFileError, read_json_records
from src.manifest import write_manifest
from src.manifest_check import inspect_all, problems_of_audio
from src.prompts import ASR_PROMPT
from src.text_faults import faults_of

DESCRIBE_PROMPT = "Describe the speaker."
MAX_SKIPPED_SHOWN = 10
GENDERS = {"f": "female", "m": "male", "female": "female", "male": "male"}


@dataclass(frozen=True)
class CorpusClip:
    """One utterance, as its corpus describes it."""

    audio_id: str  # unique in the corpus
    path: Path
    speaker: str
    attributes: Mapping[str, str | int | float]  # gender, age, accent, emotion, ...: what the corpus gives
    transcription: str = ""  # empty where the corpus has none
    group: str = ""  # clips of one group share their split; by default those of one speaker


@dataclass(frozen=True)
class Skipped:
    """A clip that is left out."""

    audio_id: str
    reason: str
    path: Path | None = None  # None: it has no audio file


@dataclass(frozen=True)
class Corpus:
    """What a script found."""

    clips: list[CorpusClip]
    skipped: list[Skipped]
    attributes: Sequence[str] = ()  # that its clips ought to have
    left_out: list[Path] = field(default_factory=list)  # audio that is not to be read, as that of a second microphone


@reports_user_errors
def run(
    dataset: str,
    doc: str,
    read: Callable[[Path, argparse.Namespace], Corpus],
    add_flags: Callable[[argparse.ArgumentParser], None] | None = None,
    argv: Sequence[str] | None = None,
) -> int:
    """A corpus script's main: returns the exit status, 0 when the manifest is written.

    Args:
        dataset: the manifest's `dataset`.
        doc: the script's docstring, for --help.
        read: finds the clips under the corpus root; raises CorpusError.
        add_flags: adds the script's own flags.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("root", type=Path, metavar="CORPUS_ROOT")
    parser.add_argument("output", type=Path, metavar="OUTPUT.json", help="a name in .jsonl gives JSON Lines")
    parser.add_argument("--dev_fraction", type=fraction, default=0.0,
                        help="share of the sound to set aside for validation, by speaker (default: none)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="chooses the speakers set aside (default: %(default)s)")
    parser.add_argument("--max_seconds", type=positive_number, default=WINDOW_SECONDS,
                        help="longer clips, whose end is not heard, are left out (default: %(default)g)")  # fmt: skip
    parser.add_argument("--jobs", type=whole_number(1), help="files read at a time (default: the number of processors)")
    if add_flags:
        add_flags(parser)
    args = parser.parse_args(argv)
    if args.dev_fraction == 1:
        parser.error(f"--dev_fraction must be less than 1, found {args.dev_fraction}")
    check_corpus_outputs(args.output, args.root, getattr(args, "transcripts", None))
    prepare(dataset, read(args.root, args), args)
    return 0


def outputs_of(output: Path) -> tuple[Path, Path, Path]:
    """The manifest, the one to validate on and the list of what was left out."""
    return (
        output,
        output.with_name(f"{output.stem}.dev{output.suffix}"),
        output.with_name(f"{output.stem}.skipped.txt"),
    )


def check_corpus_outputs(output: Path, root: Path, transcripts: Path | None) -> None:
    """Raise OutputError where an output cannot be written, or is a file of the corpus and not one written before."""
    manifests = outputs_of(output)[:2]
    check_outputs(outputs_of(output), [transcripts])
    for path in manifests:
        inside = path.is_file() and path.resolve().is_relative_to(root.resolve())
        if inside and path.stat().st_size and not is_manifest(path):
            raise OutputError(f"{path} would be overwritten, and it is a file of the corpus; choose another output")


def is_manifest(path: Path) -> bool:
    """Whether a file begins as a manifest does, one of an earlier run."""
    try:
        first = next(read_json_records(path), None)
    except JSONFileError:
        return False
    return first is not None and isinstance(first.value, dict) and "audio_filepath" in first.value


def prepare(dataset: str, corpus: Corpus, args: argparse.Namespace) -> None:
    """Read the clips' audio, split, write, and say what was done. Raises CorpusError where nothing is left."""
    report_unread(args.root, corpus)
    usable, unusable = read_seconds(corpus.clips, args.max_seconds, args.jobs)
    skipped = corpus.skipped + unusable
    output, dev, listed = outputs_of(args.output)
    list_skipped(skipped, listed)
    if not usable:
        raise CorpusError(
            f"{args.root}: no usable clip, {len(skipped)} left out. Is all of it unpacked? --help shows the layout"
        )
    held_out = choose_groups(usable, args.dev_fraction, args.seed) if args.dev_fraction else set()
    parts = {output: [pair for pair in usable if group_of(pair[0]) not in held_out]}
    if held_out:
        parts[dev] = [pair for pair in usable if group_of(pair[0]) in held_out]
    elif dev.exists():
        print(f"note: {dev} is of an earlier run; its clips may be in {args.output} now")
    for path, part in parts.items():
        write_manifest(path, (to_entry(clip, seconds, dataset, path.parent) for clip, seconds in part))
        hours = sum(seconds for _, seconds in part) / 3600
        speakers = len({clip.speaker for clip, _ in part})
        untranscribed = sum(not clip.transcription for clip, _ in part)
        print(f"{path}: {len(part)} clips, {hours:.2f} hours, {speakers} speakers"
              + (f"; {untranscribed} without a transcript" if untranscribed else ""))  # fmt: skip
    report_lacking([clip for clip, _ in usable], corpus.attributes)


def report_lacking(clips: Sequence[CorpusClip], names: Sequence[str]) -> None:
    """Say of how many clips an attribute is not known: all of them where a table is not read as it ought."""
    for name in names:
        lacking = [clip for clip in clips if name not in clip.attributes]
        if lacking:
            print(f"{len(lacking)} of {len(clips)} clips have no {name}, the first: {lacking[0].audio_id}")


def read_seconds(
    clips: Sequence[CorpusClip], max_seconds: float, jobs: int | None
) -> tuple[list[tuple[CorpusClip, float]], list[Skipped]]:
    """Decode every clip: those to train on, with their real durations, and the others."""
    usable, skipped, ids = [], [], set()
    for clip, found in zip(clips, inspect_all([clip.path for clip in clips], jobs), strict=True):
        reasons = [str(found)] if isinstance(found, AudioError) else list(problems_of_audio(found, None, max_seconds))
        if not clip.transcription and not clip.attributes:
            reasons.append("neither a transcript nor an attribute: nothing to learn from it")
        if odd := odd_text(clip):
            reasons.append(odd)
        if clip.audio_id in ids:
            reasons.append(f"{clip.path}: a clip before it has the same id")
        if reasons:
            skipped.append(Skipped(clip.audio_id, "; ".join(reasons), clip.path))
        else:
            usable.append((clip, found.seconds))
            ids.add(clip.audio_id)
    return usable, skipped


def odd_text(clip: CorpusClip) -> str:
    """Why a clip's text or name cannot stand in a manifest, or is not to be learned; "" where it can."""
    if not is_unicode(f"{clip.audio_id} {clip.path}"):
        return "its name is no UTF-8 text"
    if not is_unicode(clip.transcription):
        return "its text holds half a surrogate pair"
    return "; ".join(f"its text {fault}" for fault in faults_of(clip.transcription))


def group_of(clip: CorpusClip) -> str:
    return clip.group or clip.speaker


def choose_groups(usable: Sequence[tuple[CorpusClip, float]], fraction: float, seed: int) -> set[str]:
    """Groups that together hold about `fraction` of the sound: at least one, never all; clips come with their seconds.

    Raises CorpusError where there is only one.
    """
    by_group: Counter[str] = Counter()
    for clip, seconds in usable:
        by_group[group_of(clip)] += seconds
    if len(by_group) < 2:
        raise CorpusError(f"all clips are of {next(iter(by_group))}: no split by speaker; leave out --dev_fraction")
    groups = sorted(by_group)
    random.Random(seed).shuffle(groups)
    chosen: set[str] = set()
    short = fraction * by_group.total()  # what is still missing, or too much where negative
    for group in groups:
        if abs(short - by_group[group]) < abs(short) and len(chosen) + 1 < len(groups):
            chosen.add(group)
            short -= by_group[group]
    return chosen or {min(groups, key=by_group.__getitem__)}


def to_entry(clip: CorpusClip, seconds: float, dataset: str, folder: Path) -> dict:
    """The manifest's entry: to transcribe or, where nobody wrote down the words, to describe the speaker."""
    entry = {
        "audio_id": clip.audio_id,
        "audio_filepath": path_from(folder, clip.path),
        "input": ASR_PROMPT if clip.transcription else DESCRIBE_PROMPT,
        "target": clip.transcription or describe(clip.attributes),
        "transcription": clip.transcription,
        "dataset": dataset,
        "duration": round(seconds, 3),
        "speaker": clip.speaker,
        "attributes": dict(clip.attributes),
    }
    return entry if clip.transcription else entry | {"transcribed": False}


def path_from(folder: Path, path: Path) -> str:
    """How a manifest in `folder` names a file: relative if the file lies under the folder, else absolute."""
    folder, path = absolute(folder), absolute(path)
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def absolute(path: Path) -> Path:
    """As it is written, links included; but of `link/..` the system takes the parent of what the link leads to."""
    parts = path.parts
    behind = max((place for place, part in enumerate(parts, 1) if part == ".."), default=0)  # the last `..`
    return Path(*parts[:behind]).resolve() / Path(*parts[behind:])


def describe(attributes: Mapping[str, str | int | float]) -> str:
    """What is known of a speaker and how they speak, as English sentences; empty when nothing is."""
    known = dict(attributes)
    accent, region = str(known.pop("accent", "")), known.pop("region", "")
    article = "an" if accent[:1] in ("A", "E", "I", "O", "U") else "a"
    where = f" ({region})" if region else ""
    phrases = [
        f"is {known.pop('gender')}" if "gender" in known else "",
        f"is {known.pop('age')} years old" if "age" in known else "",
        f"comes from {known.pop('nationality')}" if "nationality" in known else "",
        f"has {article} {accent} accent{where}" if accent else "",
        f"sounds {known.pop('emotion')}" if "emotion" in known else "",
    ]
    *first, last = [phrase for phrase in phrases if phrase] or [""]
    sentences = [f"The speaker {', '.join(first)}{' and ' if first else ''}{last}."] if last else []
    return " ".join(sentences + [f"{name.capitalize()}: {value}." for name, value in known.items()])


def list_skipped(skipped: Sequence[Skipped], path: Path) -> None:
    """Show the first clips left out and write all of them to `path`; an older list there is removed."""
    path.unlink(missing_ok=True)
    if not skipped:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{clip.audio_id}: {clip.reason}\n".encode("utf-8", "backslashreplace").decode() for clip in skipped]
    write_file(path, "".join(lines))
    print("".join(f"skipped {line}" for line in lines[:MAX_SKIPPED_SHOWN]), end="")
    print(f"{len(skipped)} clips skipped, all of them named in {path}")


def report_unread(root: Path, corpus: Corpus) -> None:
    """Say how many audio files under the root a script made nothing of: where it is half of them, look at `--help`."""
    known = {clip.path for clip in corpus.clips} | {clip.path for clip in corpus.skipped} | set(corpus.left_out)
    unread = [path for path in find_audio(root, "**/*") if path not in known]
    if unread:
        print(f"note: {len(unread)} of {len(unread) + len(known - {None})} audio files under {root} are not of the "
              f"layout or the splits that are read, the first: {unread[0]}")  # fmt: skip


def choose_splits(found: Sequence[str], wanted: Sequence[str] | None, training: Sequence[str]) -> list[str]:
    """The publisher's splits to read: those wanted, else those for training, else, where there are none, all.

    Raises CorpusError for one that is wanted and not there.
    """
    for split in wanted or ():
        if split not in found:
            raise CorpusError(f"there is no split {split!r}; found {', '.join(found) or 'none'}; choose one of them")
    chosen = list(wanted or [split for split in found if split in training] or found)
    left_out = [split for split in found if split not in chosen]
    print(
        f"reading {', '.join(chosen) or 'nothing'}"
        + (f"; leaving out {', '.join(left_out)} (--splits)" if left_out else "")
    )
    return chosen


def add_transcripts_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--transcripts", type=Path, metavar="FILE",
                        help="transcripts that the corpus lacks: JSON Lines or a list of audio_id and response, as "
                        "inference_stage1_asr.py writes it from this script's manifest")  # fmt: skip


def add_transcripts(corpus: Corpus, path: Path | None) -> Corpus:
    """The corpus with what `path` says was said; other clips stay without. Raises CorpusError for a broken file."""
    if path is None:
        return corpus
    try:
        entries, broken = read_entries(path)
    except BenchmarkFileError as error:
        raise CorpusError(str(error)) from None
    broken += [f"{path} {place}: no audio_id" for place, entry in entries if "audio_id" not in entry]
    if broken:
        raise CorpusError("\n".join(broken[:20]))
    said = {str(entry["audio_id"]): (answer_of(entry, ("response",)) or "").strip() for _, entry in entries}
    clips = [replace(clip, transcription=said.get(clip.audio_id, "")) for clip in corpus.clips]
    if not any(clip.transcription for clip in clips):
        raise CorpusError(
            f"{path} has a response for none of the {len(clips)} clips. Are its audio_id's this "
            "corpus's? Pass the corpus's own"
        )
    return replace(corpus, clips=clips)
