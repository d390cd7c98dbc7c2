"""Kaldi's tables, such as wav.scp and text: one line an utterance, its id and what belongs to it."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.benchmarks import ASR
from evaluation.result_files import BenchmarkFileError, check_unique, read_records
from src.files import write_file


def read_table(path: Path) -> list[tuple[str, str]]:
    """The lines' ids and what follows them, which may be empty. Raises BenchmarkFileError; an id must occur once."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise BenchmarkFileError(f"{path}: no such file. Check the path") from None
    except UnicodeDecodeError as error:
        raise BenchmarkFileError(f"{path}: not a text in UTF-8 ({error}). Convert the file") from None
    rows = [line.strip().partition(" ") for line in (line.replace("\t", " ") for line in lines) if line.strip()]
    check_unique(path, [utterance for utterance, _, _ in rows])
    return [(utterance, value.strip()) for utterance, _, value in rows]


def read_wav_scp(path: Path) -> list[dict]:
    """The records that a wav.scp stands for. Raises BenchmarkFileError naming every line without a sound file."""
    records, broken = [], []
    for utterance, audio in read_table(path):
        if not audio or audio.endswith("|"):
            found = f"the command {audio!r:.80}, which is not run here" if audio else "no path"
            broken.append(f"{path} utterance {utterance}: expected the path of a sound file, found {found}")
        records.append({"audio_id": utterance, ASR.audio: audio})
    if broken:
        raise BenchmarkFileError(
            "\n".join([*broken[:20], f"{len(broken)} problem(s) in {path}; nothing was started: mend them"])
        )
    if not records:
        raise BenchmarkFileError(f"{path} holds no utterances: pass another file")
    return records


def read_transcripts(path: Path, field: str) -> tuple[list[dict], list[str]]:
    """`read_records`, also of Kaldi's text, whose transcripts become the records' `field`."""
    beginning = Path(path).read_bytes().lstrip()[:1] if Path(path).is_file() else b""
    if beginning in (b"[", b"{", b""):
        return read_records(path)
    return [{"audio_id": utterance, field: text} for utterance, text in read_table(path)], []


def check_ids(path: Path, records: Sequence[dict]) -> None:
    """Raise BenchmarkFileError unless the records' keys can be ids of Kaldi: unique, and without white space."""
    keys = [ASR.key(record) for record in records]
    check_unique(path, keys)
    spaced = [key for key in keys if key.split() != [key]]
    if spaced:
        raise BenchmarkFileError(
            f"{path}: {len(spaced)} item(s) cannot be told in lines of ids and texts, the first being {spaced[0]!r}: "
            "give them an audio_id without white space, or leave out --output_text"
        )


def write_text(path: Path, output: Path) -> None:
    """Write the transcripts of the finished `output` as Kaldi's text.

    What could not be transcribed is an id without words: `output` has the reason as `error`, no hypothesis has it.
    """
    records, _ = read_records(output)
    texts = ["" if record.get("error") else record[ASR.answer_fields[0]] for record in records]
    lines = (" ".join([ASR.key(record), *text.split()]) for record, text in zip(records, texts, strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, "".join(f"{line}\n" for line in lines))
