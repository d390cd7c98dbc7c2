"""The publishers' layouts as people come to have them: every clip is read as ever, or skipped with a reason."""

import json
import random
import shutil

import pytest

from data_prep.corpus_files import read_lines, read_text
from src.manifest import read_manifest
from src.manifest_check import Limits, check_manifest
from tests.data_prep.corpora import CORPORA, main, put_audio

VARIATIONS = 20
TEXTS = (".txt", ".csv", ".json")


def text_files(root):
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in TEXTS and path.name[0] != ".")


def audio_files(root):
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in (".wav", ".flac") and path.name[0] != ".")


def with_byte_order_marks(root, rng):
    for path in text_files(root):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def with_other_line_ends(root, rng):
    end = rng.choice([b"\r\n", b"\r"])
    for path in text_files(root):
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", end))


def in_utf_16(root, rng):
    for path in text_files(root):
        path.write_bytes(read_text(path).encode("utf-16"))


def with_extra_columns(root, rng):
    for path in text_files(root):
        lines = read_lines(path)
        if path.name == "SPEAKERS.TXT":
            lines = [f"{line}| more" if "|" in line else line for line in lines]
        elif path.name == "vox1_meta.csv":
            lines = ["Age\t" + lines[0], *(f"23\t{line}" if line else "" for line in lines[1:])]
        elif path.parent.name == "EmoEvaluation":
            lines = [f"{line}\tmore" if line.startswith("[") else line for line in lines]
        elif path.suffix == ".json":
            dialogs = json.loads("\n".join(lines))
            for turn in (turn for dialog in dialogs.values() for turn in dialog.values()):
                turn |= {"utterance_idx": 3, "more": ["x"]}
            lines = [json.dumps(dialogs, indent=2)]
        path.write_text("\n".join(lines), encoding="utf-8")


def with_blanks_and_empty_lines(root, rng):
    for path in text_files(root):
        path.write_text("".join(f"{line}  \n\n" for line in read_lines(path) if line), encoding="utf-8")


def in_another_case(root, rng):
    """File systems that know one case give names back in it."""
    change = rng.choice([str.upper, str.lower])
    for path in sorted(root.rglob("*"), key=lambda path: -len(path.parts)):
        changed = path.with_name(change(path.name))
        if changed.name != path.name and path.suffix:  # ids in texts are as they were
            path.rename(path.with_name(path.stem + change(path.suffix)))
        elif path.is_dir() and not any(c.isdigit() for c in path.name):
            path.rename(changed)


def in_deeper_folders(root, rng):
    inner = root / "a" / rng.choice(["", "b"])
    shutil.move(root, root.with_name("moved"))
    inner.parent.mkdir(parents=True)
    shutil.move(root.with_name("moved"), inner)


def with_files_of_a_macintosh(root, rng):
    for path in [*text_files(root), *audio_files(root)]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7 of a Macintosh")


def with_audio_missing(root, rng):
    for path in rng.sample(audio_files(root), 1):
        path.unlink()


def with_audio_that_cannot_be_used(root, rng):
    path = rng.choice(audio_files(root))
    content = path.read_bytes()
    path.write_bytes(rng.choice([b"", b"no sound", content[:50], bytes(len(content))]))


def with_a_clip_more(root, rng):
    path = rng.choice(audio_files(root))
    put_audio(path.with_name(f"{path.stem}9{path.suffix}"))


def with_a_text_missing(root, rng):
    tables = ("speakers.txt", "vox1_meta.csv", "metadata.json", "speaker-info.txt")
    texts = [path for path in text_files(root) if path.name.lower() not in tables]
    if texts:
        rng.choice(texts).unlink()


KEEPING = [
    with_byte_order_marks, with_other_line_ends, in_utf_16, with_extra_columns, with_blanks_and_empty_lines,
    in_another_case, in_deeper_folders, with_files_of_a_macintosh,
]  # fmt: skip
LOSING = [with_audio_missing, with_audio_that_cannot_be_used, with_a_clip_more, with_a_text_missing]


@pytest.fixture(scope="module", params=CORPORA)
def corpus(request, tmp_path_factory):
    """A corpus as published: its name, its folder, its samples."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    CORPORA[name](folder / name)
    assert main(name, folder / name, folder / "m.json") == 0
    return name, folder / name, {sample.audio_id.lower(): sample for sample in read_manifest(folder / "m.json")}


@pytest.mark.parametrize("seed", range(VARIATIONS))
def test_a_corpus_as_people_have_it(corpus, seed, tmp_path, capsys):
    name, published, expected = corpus
    rng, root = random.Random(seed), tmp_path / name
    shutil.copytree(published, root)
    changes = [KEEPING[seed % len(KEEPING)], *rng.sample(KEEPING, 2)] + (rng.sample(LOSING, 2) if seed >= 10 else [])
    for change in sorted(set(changes), key=[*LOSING, *KEEPING].index):
        change(root, rng)
    status = main(name, root, tmp_path / "m.json")
    told = capsys.readouterr()
    if status and "no usable clip" in told.err and seed >= 10:
        return  # all are lost
    assert status == 0, (changes, told.err)
    samples = {sample.audio_id.lower(): sample for sample in read_manifest(tmp_path / "m.json")}
    assert check_manifest(tmp_path / "m.json", Limits()).problems == []
    listed = tmp_path / "m.skipped.txt"
    skipped = (
        {line.partition(": ")[0].lower() for line in listed.read_text().splitlines()} if listed.exists() else set()
    )
    lost = expected.keys() - samples.keys() - skipped
    if seed < 10:
        assert not skipped and samples.keys() == expected.keys(), changes
    else:
        assert not lost or with_audio_missing in changes or with_audio_that_cannot_be_used in changes, (changes, lost)
        assert len(lost) <= 1 and len(skipped) <= 4
    for audio_id in samples.keys() & expected.keys():
        found, sample = samples[audio_id], expected[audio_id]
        assert (found.target, found.duration) == (sample.target, sample.duration), changes
        lacking = sample.extra["attributes"].items() - found.extra["attributes"].items()
        assert not lacking or all(f"have no {key}, the first: " in told.out for key, _ in lacking), (changes, lacking)
