"""The tiny Whisper's pretraining, and what the checkpoint it left hears in voices it never met."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from demo import pretrain_whisper, world
from demo.pretrain_whisper import ATTRIBUTES, FIRST_WORD, FRAMES, NOT_SPEECH, SILENCE, ClipMaker
from demo.speech import WINDOW
from src.configuration_DIFFA import SAMPLE_RATE
from src.modeling_whisper_encoder import WhisperAudioEncoder

CHECKPOINT = Path(__file__).resolve().parents[2] / "demo" / "assets" / "whisper"


@pytest.fixture(scope="module")
def extractor() -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor.from_pretrained(CHECKPOINT)


def test_encode_equals_the_encoder_on_a_whole_window():
    torch.manual_seed(0)
    encoder = WhisperForConditionalGeneration(pretrain_whisper.whisper_config()).model.encoder.eval()
    mel = torch.randn(2, 80, 2 * FRAMES)
    with torch.no_grad():
        expected = encoder(mel, output_hidden_states=True).hidden_states
        found = pretrain_whisper.encode(encoder, mel)
    assert len(found) == len(expected) == 5
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_frame_labels_follow_the_words(extractor):
    maker = ClipMaker(extractor, seed=0, test=False)
    clips = [maker.make() for _ in range(40)]
    spoken = [clip for clip in clips if clip.text]
    assert 20 < len(spoken) < 40
    for clip in spoken:
        runs = clip.words[np.flatnonzero(np.diff(clip.words, prepend=-1))]
        texts = [world.SPOKEN_WORDS[value - FIRST_WORD] for value in runs if value >= FIRST_WORD]
        assert texts == clip.text.split()
        assert (clip.words[clip.length :] == SILENCE).all()
    for clip in clips:
        if not clip.text:
            assert (clip.words[: clip.length] == NOT_SPEECH).all()
        known = {name for name, value in zip(ATTRIBUTES, clip.attributes, strict=True) if value >= 0}
        assert known in [set(kind) for kind in world.ATTRIBUTES.values()]


def test_batches_hide_what_follows_a_clip(extractor):
    maker = ClipMaker(extractor, seed=1, test=False)
    clips = [maker.make() for _ in range(4)]
    frames = max(clip.length for clip in clips)
    mel, words, attributes, lengths = pretrain_whisper.batch_of(clips, frames)
    assert mel.shape == (4, 80, 2 * frames) and attributes.shape == (4, len(ATTRIBUTES))
    for row, length in zip(words, lengths, strict=True):
        assert (row[length:] == -1).all() and (row[:length] >= 0).all()


def test_collapse_drops_silence_and_single_frames():
    cat, dog = (FIRST_WORD + world.SPOKEN_WORDS.index(word) for word in ("cat", "dog"))
    assert pretrain_whisper.collapse([0, cat, cat, cat, dog, 0, dog, dog, NOT_SPEECH, NOT_SPEECH]) == ["cat", "dog"]


def test_checkpoint_is_small_and_has_a_window_that_clips_fit(extractor):
    assert sum(file.stat().st_size for file in CHECKPOINT.iterdir()) <= 4_000_000
    assert extractor.n_samples == WINDOW * SAMPLE_RATE
    encoder = WhisperAudioEncoder.from_pretrained(CHECKPOINT)
    assert encoder.window_frames == extractor.nb_max_frames == 2 * FRAMES
    assert encoder.config.encoder_layers == 4 and encoder.config.d_model == 128


def test_pretraining_says_how_it_went():
    record = json.loads((CHECKPOINT / "pretraining.json").read_text())
    assert record["steps"] == record["of_steps"] and record["seconds"] > 0
    assert record["unseen_sentences_and_voices"]["word_frames"] > 0.9


def test_checkpoint_hears_unmet_voices(extractor):
    """Which attribute value a test clip has is told by the nearest mean hidden state of training clips."""
    encoder = WhisperAudioEncoder.from_pretrained(CHECKPOINT)

    def hear(test: bool, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        maker = ClipMaker(extractor, seed=2, test=test)
        mel, _, attributes, lengths = pretrain_whisper.batch_of([maker.make() for _ in range(count)], FRAMES)
        mask = torch.arange(2 * FRAMES) < 2 * lengths[:, None]
        hidden, _ = encoder(mel, mask)
        inside = torch.arange(FRAMES) < lengths[:, None]
        return (hidden[2] * inside[..., None]).sum(1) / lengths[:, None], attributes

    train, train_values = hear(False, 80)
    test, test_values = hear(True, 48)
    for index, name in enumerate(("gender", "speed", "pitch")):
        centres = torch.stack([train[train_values[:, index] == value].mean(0) for value in (0, 1)])
        known = test_values[:, index] >= 0
        right = (torch.cdist(test[known], centres).argmin(1) == test_values[known, index]).float().mean()
        assert right > 0.75, (name, right)
