"""docs/architecture.md shows the way of one waveform and of one sample as a run takes it: traced here, file by file."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from src.audio import read_audio
from src.data_sampler import TrainingSampler
from src.dataloader import DIFFACollator, DIFFADataset
from src.generation_options import GenerationOptions
from src.manifest import read_manifest
from tests.conftest import GOLDEN, load_golden

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MAX_FILES = 12  # that a reader must open to follow a waveform, or a sample


def files_of(call: Callable[[], object]) -> list[str]:
    """The repository's files whose functions a call enters, in the order of their first turn."""
    files: dict[str, None] = {}

    def profile(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if (
            event == "call"
            and path.is_relative_to(ROOT)
            and path != Path(__file__)
            and "site-packages" not in path.parts
        ):
            files[path.relative_to(ROOT).as_posix()] = None

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(files)


def shown(heading: str) -> list[str]:
    """The files in the first column of the table under a heading."""
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\S+\.py)` \|", section, flags=re.MULTILINE)


def test_the_way_of_a_waveform():
    model, options = load_golden(), GenerationOptions(steps=4, block_length=4, max_new_tokens=4)
    files = files_of(lambda: model.generate([read_audio(GOLDEN / "clip0.wav")], ["What is said?"], options))
    assert files == shown("The way of one waveform")
    assert len(files) <= MAX_FILES


def test_the_way_of_a_training_sample(tmp_path):
    manifest = tmp_path / "m.json"
    manifest.write_text(
        '[{"audio_id": "a", "audio_filepath": "%s", "input": "What is said?", "target": "one", "transcription": "one",'
        ' "dataset": "d", "duration": 0.8}]' % (GOLDEN / "clip0.wav")
    )
    model = load_golden()
    model.prepare_training(2)
    dataset = DIFFADataset(read_manifest(manifest), model.tokenizer)
    config = model.llm_model.config
    collator = DIFFACollator(model.feature_extractor, config.mask_token_id, config.pad_token_id)
    [draw] = TrainingSampler(num_samples=1, update_size=1, seed=1)
    files = files_of(lambda: model(**collator([dataset[draw]])).loss.backward())
    assert files == shown("The way of one training sample")
    assert len(files) <= MAX_FILES
