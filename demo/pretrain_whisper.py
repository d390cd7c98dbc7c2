"""Pretrain the miniature's tiny Whisper encoder on words and attributes of made-up clips; about 45 minutes, one core.

    python demo/pretrain_whisper.py --output demo/assets/whisper

The encoder learns which word is said in each 20 ms frame (read from its last hidden state) and how a clip sounds
(gender, speed, pitch; sound and count; direction and tempo; read from the mean of its middle hidden states). Training
sentences, training voices and training keys only. The read-out heads are thrown away; the decoder, which nothing
uses, stays as initialised, so that the folder is a complete Whisper checkpoint.
"""

import argparse
import json
import math
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from jiwer import wer
from torch import nn
from torch.nn import functional as F
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from demo import world
from demo.make_data import render
from demo.speech import WINDOW
from src.configuration_DIFFA import SAMPLE_RATE
from src.errors import reports_user_errors

FRAME_RATE = 50  # encoder frames per second
FRAMES = int(WINDOW * FRAME_RATE)  # encoder frames in a window
SILENCE, NOT_SPEECH, FIRST_WORD = 0, 1, 2  # frame classes; world.SPOKEN_WORDS follow
ATTRIBUTE_LAYERS = (1, 2, 3)  # hidden states the attributes are read from; 0 is the embedding output
ATTRIBUTES = {name: values for kind in world.ATTRIBUTES.values() for name, values in kind.items()}
KINDS = {"sentence": 0.6, "question": 0.18, "sound": 0.11, "music": 0.11}  # shares of the clips
BATCH = 32
POOL = 4096  # clips in memory; each step replaces the FRESH oldest, so a clip is seen about BATCH / FRESH times
FRESH = 6
FULL_WINDOW = 0.2  # share of batches that are as long as the window; the others stop after their longest clip
LAST_FULL = 0.8  # from this part of training on, all batches are
LEARNING_RATE = 2e-3
WARMUP = 300
LEARNING_RATE_FLOOR = 0.01  # of the peak, at the end
ATTRIBUTE_WEIGHT = 1.0
MASKED_BANDS, MASKED_FRAMES = 8, 8  # at most, one stripe each per clip, as in SpecAugment (arXiv 1904.08779)
TEST_CLIPS = 800
LOG_EVERY = 100


@dataclass(frozen=True)
class LabelledClip:
    """A clip as the encoder gets it, and what it should find there."""

    mel: np.ndarray  # float16 [80, 2 * FRAMES]
    length: int  # encoder frames of sound
    words: np.ndarray  # int64 [FRAMES], frame classes
    attributes: tuple[int, ...]  # index of the value per ATTRIBUTES, -1 where the clip has none
    text: str


class ClipMaker:
    """Draws scenes and renders them, one split per maker."""

    def __init__(self, extractor: WhisperFeatureExtractor, seed: int, test: bool) -> None:
        self._extractor = extractor
        self._test = test
        self._scenes = random.Random(seed)
        self._sounds = np.random.default_rng(seed)
        self._word_class = {word: FIRST_WORD + i for i, word in enumerate(world.SPOKEN_WORDS)}

    def make(self) -> LabelledClip:
        scene = world.fitting(self._scene())
        utterance = render(scene, self._test, self._sounds)
        features = self._extractor(utterance.samples, sampling_rate=SAMPLE_RATE, return_tensors="np")
        length = math.ceil(len(utterance.samples) / SAMPLE_RATE * FRAME_RATE)
        words = np.full(FRAMES, SILENCE)
        if scene.kind != "speech":
            words[:length] = NOT_SPEECH
        for word in utterance.words:
            first, after = round(word.start * FRAME_RATE), round(word.end * FRAME_RATE)
            words[first : max(after, first + 1)] = self._word_class[word.text]
        attributes = tuple(
            options.index(scene.attributes[name]) if name in scene.attributes else -1
            for name, options in ATTRIBUTES.items()
        )
        return LabelledClip(features.input_features[0].astype(np.float16), length, words, attributes, scene.text)

    def _scene(self) -> world.Scene:
        kind = self._scenes.choices(tuple(KINDS), tuple(KINDS.values()))[0]
        if kind == "sentence":
            return world.random_speech(self._scenes, self._test)
        if kind == "question":
            subset = self._scenes.choice(world.VOICEBENCH_SUBSETS)
            return world.random_question_speech(self._scenes, subset, self._test)
        return world.random_sound(self._scenes) if kind == "sound" else world.random_music(self._scenes)


class Readout(nn.Module):
    """The heads that pretraining reads the encoder with: linear, so that an adapter finds it easy too."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.words = nn.Linear(d_model, FIRST_WORD + len(world.SPOKEN_WORDS))
        self.attributes = nn.ModuleList(
            nn.ModuleList(nn.Linear(d_model, len(options)) for options in ATTRIBUTES.values()) for _ in ATTRIBUTE_LAYERS
        )

    def forward(
        self, hidden_states: list[torch.Tensor], lengths: torch.Tensor
    ) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
        """Frame logits [B, T, classes]; per layer and attribute, logits [B, values]."""
        inside = (torch.arange(hidden_states[0].shape[1]) < lengths[:, None]).float()  # [B, T]
        means = [
            (hidden_states[layer] * inside[..., None]).sum(1) / lengths[:, None].float() for layer in ATTRIBUTE_LAYERS
        ]
        logits = [[head(mean) for head in heads] for mean, heads in zip(means, self.attributes, strict=True)]
        return self.words(hidden_states[-1]), logits


def whisper_config() -> WhisperConfig:
    return WhisperConfig(
        vocab_size=8, num_mel_bins=80, d_model=128, max_source_positions=FRAMES, max_target_positions=8,
        encoder_layers=4, encoder_attention_heads=4, encoder_ffn_dim=384,
        decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=32,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip


def encode(encoder: nn.Module, mel: torch.Tensor) -> list[torch.Tensor]:
    """Hidden states as the encoder gives them, for windows cut short too (its own forward takes whole ones only)."""
    hidden = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).transpose(1, 2)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    states = []
    for layer in encoder.layers:
        states.append(hidden)
        hidden = layer(hidden, attention_mask=None, layer_head_mask=None)[0]
    return [*states, encoder.layer_norm(hidden)]


def batch_of(clips: list[LabelledClip], frames: int) -> tuple[torch.Tensor, ...]:
    """Mel [B, 80, 2 frames], word classes [B, frames] (-1 past the end), attributes [B, A], lengths [B]."""
    mel = torch.from_numpy(np.stack([clip.mel[:, : 2 * frames] for clip in clips])).float()
    words = torch.from_numpy(np.stack([clip.words[:frames] for clip in clips]))
    lengths = torch.tensor([clip.length for clip in clips])
    words = words.masked_fill(torch.arange(frames) >= lengths[:, None], -1)
    return mel, words, torch.tensor([clip.attributes for clip in clips]), lengths


def mask_stripes(mel: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    for clip in mel:
        band, first = rng.integers(0, MASKED_BANDS + 1), rng.integers(0, 80 - MASKED_BANDS)
        clip[first : first + band] = clip.mean()
        frames, first = rng.integers(0, MASKED_FRAMES + 1), rng.integers(0, clip.shape[1] - MASKED_FRAMES)
        clip[:, first : first + frames] = clip.mean()
    return mel


def loss_of(readout: Readout, states: list[torch.Tensor], words, attributes, lengths) -> tuple[torch.Tensor, ...]:
    """Word loss and attribute loss, both in nats."""
    frame_logits, attribute_logits = readout(states, lengths)
    word_loss = F.cross_entropy(frame_logits.flatten(0, 1), words.flatten(), ignore_index=-1)
    losses = [
        F.cross_entropy(logits, attributes[:, i], ignore_index=-1)
        for layer in attribute_logits
        for i, logits in enumerate(layer)
        if (attributes[:, i] >= 0).any()
    ]
    return word_loss, torch.stack(losses).mean()


def collapse(classes: list[int]) -> list[str]:
    """Words of a row of frame classes: runs of at least two frames, silence left out."""
    runs = [[classes[0], 0]]
    for value in classes:
        if value != runs[-1][0]:
            runs.append([value, 0])
        runs[-1][1] += 1
    return [world.SPOKEN_WORDS[value - FIRST_WORD] for value, count in runs if count > 1 and value >= FIRST_WORD]


@torch.no_grad()
def evaluate(encoder: nn.Module, readout: Readout, clips: list[LabelledClip]) -> dict:
    """Accuracies on test clips: words by frame, a rough word error rate, each attribute from each layer's mean."""
    encoder.eval()
    right = total = 0
    spoken, heard = [], []
    hits = {name: [[] for _ in ATTRIBUTE_LAYERS] for name in ATTRIBUTES}
    for start in range(0, len(clips), 50):
        part = clips[start : start + 50]
        mel, words, attributes, lengths = batch_of(part, FRAMES)
        frame_logits, attribute_logits = readout(encode(encoder, mel), lengths)
        classes = frame_logits.argmax(-1)
        is_speech = words >= FIRST_WORD
        right += (classes == words)[is_speech].sum().item()
        total += is_speech.sum().item()
        for clip, row in zip(part, classes, strict=True):
            if clip.text:
                spoken.append(clip.text)
                heard.append(" ".join(collapse(row[: clip.length].tolist())))
        for layer, logits in enumerate(attribute_logits):
            for i, name in enumerate(ATTRIBUTES):
                known = attributes[:, i] >= 0
                hits[name][layer] += (logits[i].argmax(-1) == attributes[:, i])[known].tolist()
    encoder.train()
    return {
        "word_frames": round(right / total, 4),
        "collapsed_wer": round(wer(spoken, heard), 4),
        "attributes_by_layer": {
            name: [round(sum(layer) / max(len(layer), 1), 3) for layer in layers] for name, layers in hits.items()
        },
    }


def learning_rate(step: int, steps: int) -> float:
    if step < WARMUP:
        return LEARNING_RATE * (step + 1) / WARMUP
    part = (step - WARMUP) / max(steps - WARMUP, 1)
    return LEARNING_RATE * max(LEARNING_RATE_FLOOR, 0.5 * (1 + math.cos(math.pi * part)))


def save(
    model: WhisperForConditionalGeneration, extractor: WhisperFeatureExtractor, record: dict, output: Path
) -> None:
    """Write the folder beside its place, then move each file in."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        half = WhisperForConditionalGeneration(model.config).half()
        half.load_state_dict(model.state_dict())
        half.save_pretrained(folder)
        extractor.save_pretrained(folder)
        (Path(folder) / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n")
        for file in Path(folder).iterdir():
            os.replace(file, output / file.name)


@reports_user_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo/assets/whisper"))
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save_every", type=int, default=500, help="steps between evaluations and saved states")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)  # fails now rather than after the training
    torch.manual_seed(args.seed)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    rng = np.random.default_rng(args.seed)
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=int(WINDOW))
    # eager: the fused attention's backward pass is several times slower on a CPU
    model = WhisperForConditionalGeneration._from_config(whisper_config(), attn_implementation="eager")
    encoder = model.model.encoder
    readout = Readout(model.config.d_model)
    parameters = [p for p in (*encoder.parameters(), *readout.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    test_maker = ClipMaker(extractor, args.seed + 1, test=True)
    test_clips = [test_maker.make() for _ in range(TEST_CLIPS)]
    maker = ClipMaker(extractor, args.seed, test=False)
    pool = [maker.make() for _ in range(POOL)]
    started = time.time()
    queue: list[list[LabelledClip]] = []
    word_losses, attribute_losses = [], []
    for step in range(args.steps):
        for i in range(FRESH):
            pool[(step * FRESH + i) % POOL] = maker.make()
        if not queue:  # clips of like length share a batch
            drawn = sorted(rng.choice(POOL, 8 * BATCH, replace=False), key=lambda i: pool[i].length)
            queue = [[pool[i] for i in drawn[start : start + BATCH]] for start in range(0, len(drawn), BATCH)]
            rng.shuffle(queue)
        clips = queue.pop()
        full = step >= LAST_FULL * args.steps or rng.random() < FULL_WINDOW
        frames = FRAMES if full else min(FRAMES, max(clip.length for clip in clips) + 5)
        mel, words, attributes, lengths = batch_of(clips, frames)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps)
        with torch.autocast("cpu", torch.bfloat16):
            states = encode(encoder, mask_stripes(mel, rng))
        word_loss, attribute_loss = loss_of(readout, [s.float() for s in states], words, attributes, lengths)
        optimizer.zero_grad()
        (word_loss + ATTRIBUTE_WEIGHT * attribute_loss).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        word_losses.append(word_loss.item())
        attribute_losses.append(attribute_loss.item())
        if (step + 1) % LOG_EVERY == 0:
            print(
                f"step {step + 1}  {time.time() - started:.0f} s  words {np.mean(word_losses[-LOG_EVERY:]):.3f}  "
                f"attributes {np.mean(attribute_losses[-LOG_EVERY:]):.3f}",
                flush=True,
            )
        if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
            scores = evaluate(encoder, readout, test_clips)
            print(json.dumps(scores), flush=True)
            record = {
                "steps": step + 1, "of_steps": args.steps, "batch": BATCH, "seed": args.seed,
                "seconds": round(time.time() - started), "threads": torch.get_num_threads(),
                "word_loss": round(float(np.mean(word_losses[-LOG_EVERY:])), 4),
                "attribute_loss": round(float(np.mean(attribute_losses[-LOG_EVERY:])), 4),
                "attribute_layers": ATTRIBUTE_LAYERS, "unseen_sentences_and_voices": scores,
            }  # fmt: skip
            save(model, extractor, record, args.output)


if __name__ == "__main__":
    sys.exit(main())
