"""The word error rate that a stage-1 evaluation measures: clips of the manifest are transcribed, and compared."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from src.audio import AudioError, read_audio
from src.generation_options import TRANSCRIPT, GenerationOptions
from src.manifest import Sample
from src.modeling_DIFFA import DIFFAModel
from src.text_normalisation import ENGLISH, Normalisation, normalisation_of
from src.word_errors import Edits, word_edits

OPTIONS = GenerationOptions.of_preset("fast", **TRANSCRIPT, seed=0)


@dataclass(frozen=True)
class Transcripts:
    """Word errors of some clips' transcripts."""

    words: list[Edits]  # one a clip that could be used
    failures: list[str]  # what was wrong with the others


def transcribed(samples: Iterable[Sample], count: int) -> list[Sample]:
    """The first `count` samples that say what is spoken in them."""
    samples = list(samples)
    normalise = normalisation_of(sample.transcription for sample in samples)
    return list(islice((sample for sample in samples if normalise(sample.transcription)), count))


def transcribe(
    model: DIFFAModel,
    samples: Sequence[Sample],
    max_seconds: float,
    normalise: Normalisation = ENGLISH,
) -> Transcripts:
    """Have each sample's `input` answered about its clip, by the preset `fast`, and compare with its `transcription`.

    The samples are one batch. Clips are cut at `max_seconds`; those that cannot be used are left out.
    """
    heard, waveforms, failures = [], [], []
    for sample in samples:
        try:
            waveforms.append(read_audio(sample.audio_filepath, max_seconds))
            heard.append(sample)
        except AudioError as error:
            failures.append(str(error))
    texts = model.generate(waveforms, [sample.input for sample in heard], OPTIONS) if heard else []
    pairs = zip(heard, texts, strict=True)
    return Transcripts([word_edits(normalise(s.transcription), normalise(text)) for s, text in pairs], failures)
