from dataclasses import replace
from pathlib import Path

from src.eval_wer import OPTIONS, transcribe, transcribed
from src.manifest import Sample
from src.text_normalisation import BASIC
from src.word_errors import Edits
from tests.conftest import GOLDEN, load_golden

SAMPLE = Sample("a", GOLDEN / "clip0.wav", "What is said?", "", "red blue", "golden", 0.8, {})


class Stub:
    """Knows what it hears by its length."""

    def __init__(self):
        self.calls = []

    def generate(self, waveforms, instructions, options):
        self.calls.append([(len(w), text) for w, text in zip(waveforms, instructions, strict=True)])
        assert options == OPTIONS
        return ["Red, blue, blue." for _ in waveforms]


def test_samples_that_say_nothing_are_passed_over():
    spoken = [replace(SAMPLE, audio_id=str(n)) for n in range(3)]
    samples = [replace(SAMPLE, transcription=""), spoken[0], replace(SAMPLE, transcription="Hmm. "), *spoken[1:]]
    assert transcribed(samples, 2) == spoken[:2]
    assert transcribed(samples, 9) == spoken and transcribed(samples, 0) == []


def test_clips_are_answered_as_a_batch_and_held_against_what_was_said():
    gone = replace(SAMPLE, audio_filepath=Path("/nowhere/a.wav"))
    samples = [SAMPLE, gone, replace(SAMPLE, input="And here?", transcription="green"), SAMPLE, gone]
    stub = Stub()
    transcripts = transcribe(stub, samples, max_seconds=0.5)
    assert stub.calls == [[(8000, "What is said?"), (8000, "And here?"), (8000, "What is said?")]]
    assert transcripts.words == [Edits(2, 0, 0, 1), Edits(1, 1, 0, 2), Edits(2, 0, 0, 1)]
    assert transcripts.failures == ["/nowhere/a.wav: no such audio file"] * 2
    assert transcribe(stub, [gone], 0.5).words == [] and len(stub.calls) == 1  # nobody is asked about nothing


def test_texts_are_normalised_as_their_language_wants():
    stub, sample = Stub(), replace(SAMPLE, transcription="Rèd, blue, bluè.")
    (edits,) = transcribe(stub, [sample], 0.5, BASIC).words
    assert edits == Edits(3, 2, 0, 0)
    (edits,) = transcribe(stub, [sample], 0.5).words
    assert edits == Edits(3, 0, 0, 0)


def test_an_untrained_model_gets_nearly_every_word_wrong():
    model = load_golden()
    model.stage = 1
    (edits,) = transcribe(model, [SAMPLE], max_seconds=30).words
    assert edits.length == 2 and edits.rate >= 1
