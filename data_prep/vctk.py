"""VCTK (Yamagishi et al., University of Edinburgh; doi.org/10.7488/ds/2645) to a manifest, for stage 2.

    python data_prep/vctk.py data/VCTK-Corpus-0.92 data/vctk.json

Layout of CORPUS_ROOT, of version 0.92, whose audio may have been converted to .wav; the earlier 0.80, with
wav48/<speaker>/<utterance>.wav and speakers without the "p", is read too:

    speaker-info.txt      "p225  23  F    English    Southern  England" and so on
    txt/<speaker>/<utterance>.txt
    wav48_silence_trimmed/<speaker>/<utterance>_mic1.flac and _mic2.flac

The first microphone is read, which every speaker has (p280 and p315 lack the second). p315 has no texts and is skipped.
Attributes: gender, age, accent, region.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_prep.corpus import GENDERS, Corpus, CorpusClip, Skipped, run
from data_prep.corpus_files import by_any_case, find_audio, find_files, find_roots, member, read_lines

FOLDERS = ("wav48_silence_trimmed", "wav48")  # of versions 0.92 and 0.80
ATTRIBUTES = ("gender", "age", "accent", "region")
LAYOUT = "speaker-info.txt, txt and wav48_silence_trimmed, as VCTK-Corpus-0.92.zip unpacks"


def read(root: Path, args: argparse.Namespace) -> Corpus:
    """Raises CorpusError."""
    corpus = Corpus([], [], ATTRIBUTES)
    for archive in find_roots(root, "speaker-info.txt", LAYOUT):
        known = by_any_case(read_speakers(member(archive, "speaker-info.txt")))
        texts = {path.stem.casefold(): path for path in find_files(archive, "txt/*/*.txt")}
        used: set[str] = set()
        for path in find_audio(archive, *(f"{folder}/*/*" for folder in FOLDERS)):
            speaker, audio_id = path.parent.name, re.sub("_mic1$", "", path.stem, flags=re.IGNORECASE)
            if audio_id.lower().endswith("_mic2"):
                corpus.left_out.append(path)
                continue
            text = texts.get(audio_id.casefold())
            used.add(audio_id.casefold())
            said = " ".join(" ".join(read_lines(text)).split()) if text else ""
            if said:
                attributes = known(speaker) or known(speaker[1:]) or {}  # without its p, in the earlier version
                corpus.clips.append(CorpusClip(audio_id, path, speaker, attributes, said))
            else:
                expected = archive / "txt" / speaker / f"{audio_id}.txt"
                corpus.skipped.append(Skipped(audio_id, f"no text: {text or expected}", path))
        corpus.skipped.extend(
            Skipped(path.stem, f"no audio of {path}") for name, path in texts.items() if name not in used
        )
    return corpus


def read_speakers(path: Path) -> dict[str, dict[str, str | int]]:
    """Attributes by speaker, as the file spells its ids. Columns are told apart by blanks, or by tabs or commas."""
    speakers = {}
    for line in read_lines(path):
        line = re.sub(r"\(.*?\)", "", line)  # "(mic2 files unavailable)"
        delimiter = next((mark for mark in ("\t", ";", ",") if line.count(mark) >= 2), None)
        name, *fields = [field.strip(" \"'") for field in line.split(delimiter)] or [""]
        if name.lower() in ("", "id"):
            continue
        age, gender, accent, *region = [*fields, "", "", ""][: max(3, len(fields))]
        known = {
            "gender": GENDERS.get(gender.lower(), ""),
            "age": int(age) if age.isdecimal() else "",
            "accent": "" if accent == "Unknown" else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", accent),  # "NewZealand"
            "region": " ".join((region[0] if delimiter and region else " ".join(region)).split()),
        }
        speakers[name] = {key: value for key, value in known.items() if value}
    return speakers


def main(argv: list[str] | None = None) -> int:
    return run("vctk", __doc__, read, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
