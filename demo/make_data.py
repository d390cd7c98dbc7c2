"""Make the miniature's data: clips, the manifests of both stages, and three benchmarks in their public formats.

    python demo/make_data.py --output demo/out/data
    python demo/make_data.py --output demo/out/data --seed 2 --clips 2000

Training clips hold training sentences, voices and keys; everything under `benchmarks/` and `test_asr.json` holds test
ones. The same seed gives the same bytes. `data.json`, written last, says what was made.
"""

import argparse
import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import soundfile

from demo import benchmarks, world
from demo.sounds import make_music, make_sound
from demo.speech import Utterance, random_utterance, record
from demo.world import Item, Scene
from src.configuration_DIFFA import SAMPLE_RATE
from src.errors import reports_user_errors
from src.files import write_file
from src.provenance import versions

PROCESSES = 2  # always: espeak's flutter runs on from clip to clip, so who makes which clip is part of the result
CLIPS = 9_000  # training clips of speech
QUESTION_SHARE = 0.4  # of the speech clips are spoken questions, the others sentences
SOUND_SHARE = 0.12  # clips of sound, and as many of music, for each clip of speech
STAGE2_SAMPLES_PER_CLIP = 2
ITEMS = 48  # benchmark items per category: a multiple of 16 puts every answer equally often at every letter
TEST_ASR_CLIPS = 200

# Shares of the spoken questions by subset: most for those with options, eleven words said fast, which stage 1 learns to
# write down last; then for sd-qa, whose shorter questions name most of the options' words as well (README.md).
QUESTION_MIX = {"openbookqa": 3, "sd-qa": 2, "advbench": 1}

# Shares of the stage-2 samples by style and what they ask for. Voices get the most: with a fifth instead of a third of
# the samples, gender or pitch often stays at chance. Sounds need to be named without choices as well: with 0.10 of
# "mmau" alone, beeps or counts often stayed near chance, and with 0.16 beeps still did.
STAGE2_MIX = {
    ("asr", "words"): 0.04,
    ("mmsu", "words"): 0.18,
    ("mmau", "words"): 0.05,
    ("open", "words"): 0.02,
    ("voicebench", "words"): 0.06,
    ("mmsu", "voice"): 0.22,
    ("mmau", "voice"): 0.10,
    ("open", "voice"): 0.04,
    ("mmau", "sound"): 0.16,
    ("open", "sound"): 0.04,
    ("mmau", "music"): 0.09,
}


# Shares of the questions about words by what they ask for: most for the words that stage 1 is likeliest to miss, whose
# letters only questions bring (README.md). By the sentences alone, numbers would get half as many as animals.
WORD_MIX = {"animal": 5, "object": 4, "number": 5, "colour": 4, "action": 1, "place": 1}


@dataclass(frozen=True)
class Clip:
    """A clip to be made."""

    path: str  # relative to the output folder
    scene: Scene
    test: bool


def render(scene: Scene, test: bool, rng: np.random.Generator) -> Utterance:
    """The clip of a scene, with voices and keys of the split, as recorded; sounds and music hold no words."""
    if scene.kind == "speech":
        utterance = random_utterance(scene.text, **scene.attributes, test=test, rng=rng)
    else:
        make = make_sound if scene.kind == "sound" else make_music
        utterance = Utterance(make(**scene.attributes, test=test, rng=rng), ())
    return replace(utterance, samples=record(utterance.samples, rng))


def write_clips(folder: Path, clips: Sequence[Clip], seed: int) -> dict[str, float]:
    """Render clips in this process and write them as 16-bit WAV files; returns seconds of sound by path."""
    seconds = {}
    for index, clip in enumerate(clips):
        samples = render(clip.scene, clip.test, np.random.default_rng([seed, index])).samples
        (folder / clip.path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / clip.path, samples, SAMPLE_RATE, subtype="PCM_16")
        seconds[clip.path] = round(len(samples) / SAMPLE_RATE, 3)
    return seconds


def write_all_clips(folder: Path, clips: Sequence[Clip], seed: int) -> dict[str, float]:
    """`write_clips` in PROCESSES fresh processes."""
    seconds = {}
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        parts = [pool.submit(write_clips, folder, clips[i::PROCESSES], seed * PROCESSES + i) for i in range(PROCESSES)]
        for part in parts:
            seconds |= part.result()
    return seconds


def training_scenes(rng: random.Random, clips: int) -> list[Scene]:
    """Scenes of the training split: so many of speech, and sounds and music in proportion."""
    questions = round(QUESTION_SHARE * clips)
    others = max(1, round(SOUND_SHARE * clips))
    scenes = [world.random_speech(rng, test=False) for _ in range(clips - questions)]
    for subset in rng.choices(tuple(QUESTION_MIX), tuple(QUESTION_MIX.values()), k=questions):
        scenes.append(world.random_question_speech(rng, subset, test=False))
    scenes += [world.random_sound(rng) for _ in range(others)]
    scenes += [world.random_music(rng) for _ in range(others)]
    return [world.fitting(scene) for scene in scenes]


def stage2_items(rng: random.Random, scenes: Sequence[Scene], count: int) -> list[tuple[int, Item]]:
    """Questions by STAGE2_MIX and WORD_MIX about the scenes, each with its scene's index."""
    indices: dict[str, list[int]] = {"sentence": [], "question": [], "sound": [], "music": []}
    for index, scene in enumerate(scenes):
        is_question = scene.kind == "speech" and world.is_spoken_question(scene.text)
        indices["question" if is_question else "sentence" if scene.kind == "speech" else scene.kind].append(index)
    naming = {role: [i for i in indices["sentence"] if world.role_word(scenes[i].text, role)] for role in WORD_MIX}
    roles = {role: share for role, share in WORD_MIX.items() if naming[role]}
    sources = {"asr": indices["sentence"] + indices["question"], "voicebench": indices["question"]}
    items = []
    for style, about in rng.choices(tuple(STAGE2_MIX), tuple(STAGE2_MIX.values()), k=count):
        by_role = about == "words" and style not in sources
        category = rng.choices(tuple(roles), tuple(roles.values()))[0] if by_role else None  # None: any of the scene's
        source = naming[category] if category else sources.get(style) or indices.get(about) or sources["asr"]
        index = rng.choice(source)
        items.append((index, _item(rng, style, about, scenes[index], category)))
    return items


def _item(rng: random.Random, style: str, about: str, scene: Scene, category: str | None) -> Item:
    if style == "asr":
        return world.asr_item(scene)
    if style == "voicebench":
        return world.voicebench_item(scene)
    if category is None:
        names = world.categories_of(scene)
        category = rng.choice([name for name in names if about != "voice" or name in world.VOICE_CATEGORIES])
    if style == "open":
        return world.open_item(scene, category)
    return (world.mmsu_item if style == "mmsu" else world.mmau_item)(scene, category, rng)


def manifest_entry(number: int, path: str, item: Item, seconds: float) -> dict:
    """One training sample; `path` as written in the manifest."""
    entry = {
        "audio_id": f"{item.task}-{number:06d}",
        "audio_filepath": path,
        "input": item.instruction,
        "target": item.answer,
        "transcription": item.scene.text,
        "dataset": f"miniature-{item.task}",
        "duration": seconds,
    }
    return entry if item.scene.text else {**entry, "transcribed": False}  # nobody speaks


def make_data(output: Path, seed: int, clips: int, items: int) -> dict:
    """Make everything under `output`; returns what `data.json` says.

    `clips` is the number of training clips of speech, `items` the number of benchmark items per category.
    """
    started = time.time()
    rng = random.Random(seed)
    scenes = training_scenes(rng, clips)
    train = [Clip(f"train/{i // 1000:02d}/{i:05d}.wav", scene, False) for i, scene in enumerate(scenes)]
    stage2 = stage2_items(rng, scenes, STAGE2_SAMPLES_PER_CLIP * len(scenes))
    test_asr = [
        world.asr_item(world.fitting(world.random_speech(rng, test=True))) for _ in range(min(TEST_ASR_CLIPS, clips))
    ]
    asr = _placed("test_asr", test_asr)
    mmsu = _placed("benchmarks/mmsu_audio", benchmarks.mmsu_items(rng, items))
    mmau = _placed("benchmarks/mmau_audio", benchmarks.mmau_items(rng, items))
    voicebench = {
        subset: _placed(
            f"benchmarks/voicebench/{subset}", benchmarks.voicebench_items(rng, subset, math.ceil(1.25 * items))
        )
        for subset in world.VOICEBENCH_SUBSETS
    }
    test_items = [*asr, *mmsu, *mmau, *(pair for pairs in voicebench.values() for pair in pairs)]
    test = [Clip(path, item.scene, True) for path, item in test_items]
    output.mkdir(parents=True, exist_ok=True)
    seconds = write_all_clips(output, [*train, *test], seed)

    stage1 = [
        manifest_entry(i, clip.path, world.asr_item(clip.scene), seconds[clip.path])
        for i, clip in enumerate(train)
        if clip.scene.kind == "speech"
    ]
    write_file(output / "stage1.json", json.dumps(stage1, indent=0) + "\n")
    entries = [manifest_entry(n, train[i].path, item, seconds[train[i].path]) for n, (i, item) in enumerate(stage2)]
    write_file(output / "stage2.json", json.dumps(entries, indent=0) + "\n")
    entries = [manifest_entry(n, path, item, seconds[path]) for n, (path, item) in enumerate(asr)]
    write_file(output / "test_asr.json", json.dumps(entries, indent=0) + "\n")

    folder = output / "benchmarks"
    benchmarks.write_mmsu(folder, _relative(mmsu))
    benchmarks.write_mmau(folder, _relative(mmau))
    for subset, placed in voicebench.items():
        benchmarks.write_voicebench(folder / "voicebench" / subset, subset, placed, output)
        if subset == "sd-qa":  # its audio is inside the Parquet file now
            for path, _ in placed:
                (output / path).unlink()

    counts = {"stage1": len(stage1), "stage2": len(stage2), "test_asr": len(asr), "mmsu": len(mmsu), "mmau": len(mmau)}
    summary = {
        "seed": seed,
        "counts": counts | {f"voicebench/{subset}": len(placed) for subset, placed in voicebench.items()},
        "clips": dict(Counter(clip.scene.kind for clip in train)),
        "hours_of_training_sound": round(sum(seconds[clip.path] for clip in train) / 3600, 2),
        "seconds": round(time.time() - started, 1),
        "versions": versions(),
    }
    write_file(output / "data.json", json.dumps(summary, indent=2) + "\n")
    return summary


def _placed(folder: str, items: Sequence[Item]) -> list[tuple[str, Item]]:
    """Each item with the path of its clip."""
    return [(f"{folder}/{number:04d}.wav", item) for number, item in enumerate(items)]


def _relative(placed: Sequence[tuple[str, Item]]) -> list[tuple[str, Item]]:
    """Paths relative to the benchmarks' folder."""
    return [(path.removeprefix("benchmarks/"), item) for path, item in placed]


@reports_user_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to write to; it is made if missing")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clips", type=int, default=CLIPS, help=f"training clips of speech (default {CLIPS})")
    parser.add_argument("--items", type=int, default=ITEMS, help=f"benchmark items per category (default {ITEMS})")
    args = parser.parse_args()
    if args.clips < 1 or args.items < 1:
        parser.error(f"--clips and --items must be at least 1, found {args.clips} and {args.items}")
    summary = make_data(args.output, args.seed, args.clips, args.items)
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    sys.exit(main())
