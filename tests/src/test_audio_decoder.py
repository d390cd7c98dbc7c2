import io
import re
import struct
import sys

import av
import numpy as np
import pytest
import soundfile

from src.audio import AudioError, first_window, inspect_audio, mix_down, read_audio, read_windows
from src.audio_decoder import SndfileDecoder, check_file, open_decoder
from src.av_decoder import DEMUXERS, FLAC_CHECK, AvDecoder
from src.decoder import MissingPackageError
from tests.audio_files import RATES, WITH_AV, WITH_SOUNDFILE, encode, sweep, sweep_file
from tests.conftest import GOLDEN

# What a format adds to three seconds, or takes away: of streams nobody knows the padding, of WMA the first frame.
ADDED_SECONDS = {
    "aac": 0.072, "amr": 0.02, "wma": -0.024, "ima": 0.051, "fragments": 0.064, "ac3": 0.008, "eac3": 0.008,
    "mp2": 0.024, "ts": 0.072, "ps": 0.004, "flv": 0.042, "rm": 0.008, "voc": 0.024, "mka": 0.008,
}  # fmt: skip
# What no header says the length of.
UNCOUNTED = ("aac", "amr", "ac3", "eac3", "mp2", "live", "fragments", "ts", "ps", "voc", "ogg", "opus")
BY_SNDFILE = ("wav", "float", "aiff", "au", "caf", "rf64", "nms", "svx")


def decoded(content: bytes) -> np.ndarray:
    """float32 [n, channels]."""
    with open_decoder(content, "test") as decoder:
        return decoder.read(10**7)


def test_the_check_sum_of_flac():
    check = 0
    for byte in b"123456789":
        check = (check << 8 & 0xFFFF) ^ FLAC_CHECK[check >> 8 ^ byte]
    assert check == 0xFEE8  # of CRC-16/UMTS, in catalogues of check sums


@pytest.mark.parametrize("junk", [b"", b"TAG" + bytes(125), bytes(5000)])
def test_junk_in_the_last_packet_of_flac_costs_nothing(junk):
    content = sweep_file("flac")
    with av.open(io.BytesIO(content)) as container:
        packets = [bytes(packet) for packet in container.demux() if packet.size]
    decoder = AvDecoder(io.BytesIO(content), "test")
    [frame] = decoder.decode_before_junk(packets[-1] + junk)
    rest = decoded(content)[-frame.samples :]
    np.testing.assert_array_equal(decoder.block_of(frame), rest)
    assert decoder.decode_before_junk(packets[-1][:-1]) == []
    decoder.close()


@pytest.mark.parametrize("kind", [*WITH_SOUNDFILE, *WITH_AV])
def test_every_format_is_read_at_its_length_the_same_through_every_door(tmp_path, kind):
    content = sweep_file(kind)
    path = tmp_path / "clip"
    path.write_bytes(content)
    waveform = read_audio(path)
    assert len(waveform) / 16000 == pytest.approx(3 + ADDED_SECONDS.get(kind, 0), abs=0.001)
    np.testing.assert_array_equal(waveform, read_audio(content))
    np.testing.assert_array_equal(waveform, next(read_windows(content, 30)).waveform)
    window, seconds = first_window(path, 30, 600)
    np.testing.assert_array_equal(waveform, window.waveform)
    assert window.is_last and window.warnings == ()
    assert seconds == pytest.approx(len(waveform) / 16000, abs=0.1 if kind in ("wma", "mka") else 0.02)
    facts = inspect_audio(path)
    assert facts.seconds == pytest.approx(len(waveform) / 16000, abs=1e-4)
    assert facts.missing_seconds == 0 and facts.warnings == ()


@pytest.mark.parametrize("kind", ["mp3", "ogg", "opus", "m4a", "webm", "gsm", "adpcm"])
def test_lossy_formats_keep_the_sound_in_its_place(kind):
    original = sweep(3, 16000)
    assert np.corrcoef(read_audio(sweep_file(kind))[:47000], original[:47000])[0, 1] > 0.95


@pytest.mark.parametrize(
    ("kind", "subtype"), [("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("WAV", "PCM_24"), ("WAV", "PCM_U8")]
)
def test_what_is_lossless_gives_the_same_samples_by_pyav_and_by_libsndfile(kind, subtype):
    file = io.BytesIO()
    soundfile.write(file, np.stack((sweep(1, 44100), -0.5 * sweep(1, 44100)), axis=1), 44100, subtype, format=kind)
    expected, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    decoder = AvDecoder(io.BytesIO(file.getvalue()), "test")
    np.testing.assert_array_equal(decoder.read(10**6), expected)
    np.testing.assert_array_equal(decoded(file.getvalue()), expected)


@pytest.mark.parametrize("kind", [*WITH_SOUNDFILE, *WITH_AV])
def test_libsndfile_reads_what_is_not_compressed_and_pyav_the_rest(kind):
    with open_decoder(sweep_file(kind), "test") as decoder:
        assert type(decoder) is (SndfileDecoder if kind in BY_SNDFILE else AvDecoder)
        assert decoder.rate == pytest.approx(RATES.get(kind, 16000), rel=0.01)  # VOC's is a divisor of 1 MHz


@pytest.mark.parametrize("kind", [*WITH_SOUNDFILE, *WITH_AV])
def test_half_of_a_file_is_named_or_read_as_far_as_it_goes(kind):
    content = sweep_file(kind)
    half = content[: len(content) // 2 + 5]
    if kind in ("m4a", "mp4", "3gp", "alac", "alac caf"):  # their index stands at the end
        message = "not readable as audio"
    elif kind in UNCOUNTED:
        message = r"the file is cut: it ends within a frame after [01]\.\d\d s, and nothing tells how much is missing"
    else:
        message = r"the file is cut: [01]\.\d\d s are left of the "
    with pytest.raises(AudioError, match=f"^half: {message}"):
        read_audio(half, name="half")


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "CAF"])
@pytest.mark.parametrize("subtype", ["PCM_16", "ALAW"])
def test_a_file_cut_anywhere_in_its_header_is_refused_in_words(kind, subtype):
    file = io.BytesIO()
    soundfile.write(file, sweep(1, 8000)[:4000], 8000, subtype, format=kind)
    whole = file.getvalue()
    for length in (*range(4, 140), *range(1000, 1040)):
        with pytest.raises(AudioError):
            read_audio(whole[:length])


def test_a_long_file_that_is_cut_behind_what_is_heard_is_heard():
    for kind in ("flac", "mp3", "ogg"):
        content = sweep_file(kind, 8.0)
        assert len(read_audio(content[: len(content) // 2], 2.0)) == 32000


@pytest.mark.parametrize(("kind", "seconds"), [("flac", 60), ("ogg", 60), ("opus", 60), ("m4a", 60), ("mp3", 60)])
def test_damage_in_the_middle_is_named_although_the_window_is_full(tmp_path, kind, seconds):
    content = bytearray(sweep_file(kind, seconds))
    start, size = len(content) // 10, len(content) // 20
    content[start : start + size] = bytes(size)
    with pytest.raises(AudioError, match=r"^clip: the file is damaged: 30\.00 s are left of the 3\d\.\d\d s"):
        read_audio(bytes(content), name="clip")
    (tmp_path / "clip").write_bytes(content)
    facts = inspect_audio(tmp_path / "clip")
    assert facts.seconds < 58.5 and facts.missing_seconds + facts.seconds == pytest.approx(60, abs=1)


@pytest.mark.parametrize("kind", ["flac", "ogg", "opus", "live", "mka", "mp3", "aac", "wv"])
def test_two_files_one_behind_the_other_are_told_as_long_as_they_are(kind):
    """Of packets' own durations, 3 to 7 % are wrong where one file ends."""
    window, seconds = first_window(sweep_file(kind, 2.5) * 2, 30, 600)
    assert seconds == pytest.approx(len(window.waveform) / 16_000, abs=0.002)
    assert seconds == pytest.approx(2.5 if kind == "wv" else 5, abs=0.25)  # WavPack's first header counts for all


def test_sample_counts_that_libsndfile_writes_wrongly_are_understood():
    """Of IMA ADPCM they are divided by the channels, in W64 those of MS ADPCM are no number."""
    stereo = np.stack((sweep(3, 16_000), sweep(3, 16_000)), axis=1)
    for format_, subtype in (("WAV", "IMA_ADPCM"), ("W64", "IMA_ADPCM"), ("W64", "MS_ADPCM")):
        file = io.BytesIO()
        soundfile.write(file, stereo, 16_000, subtype, format=format_)
        assert len(read_audio(file.getvalue())) / 16_000 == pytest.approx(3.04, abs=0.015)


def test_a_recording_of_a_browser_does_not_know_its_length():
    """MediaRecorder writes WebM as a stream."""
    content = encode(sweep(3, 48_000), 48_000, "webm", live="1")
    with av.open(io.BytesIO(content)) as container:
        assert container.duration is None
    assert len(read_audio(content)) == 48000
    assert first_window(content, 2, 600)[1] == pytest.approx(3, abs=0.01)
    with pytest.raises(AudioError, match=r"^sent: is 3 s long; at most 1\.5 s are taken, cut it$"):
        first_window(content, 1, 1.5, "sent")


def test_a_film_is_heard_and_one_without_sound_named():
    def film(has_sound: bool) -> bytes:
        file = io.BytesIO()
        with av.open(file, "w", format="matroska") as container:
            video = container.add_stream("mpeg4", rate=10)
            video.width = video.height = 32
            sound = container.add_stream("aac", rate=16000, layout="mono") if has_sound else None
            for number in range(40):  # a second longer than the sound
                picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                picture.pts = number
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
            if sound:
                frame = av.AudioFrame.from_ndarray(sweep(3, 16000)[None], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 16000, 0
                container.mux(sound.encode(frame))
                container.mux(sound.encode(None))
        return file.getvalue()

    assert len(read_audio(film(True))) / 16000 == pytest.approx(3, abs=0.1)
    with pytest.raises(AudioError, match=r"^film: holds no audio; expected WAV, MP3"):
        read_audio(film(False), name="film")


@pytest.mark.parametrize("name", ["list.m3u8", "list.txt", "session.sdp", "playlist"])
def test_a_list_of_other_files_is_not_followed(tmp_path, name):
    clip = GOLDEN / "clip0.wav"
    for content in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{clip}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    ):
        (tmp_path / name).write_text(content)
        for source in (tmp_path / name, content.encode()):
            with pytest.raises(AudioError, match="not readable as audio"):
                read_audio(source)


def test_a_message_shows_no_object_and_no_name_that_is_none():
    for content in (
        b"plain text",
        b"ID3\x04" + bytes(50),
        b"fLaC" + bytes(50),
        b"OggS" + bytes(50),
        b"\x1aE\xdf\xa3" * 9,
    ):
        with pytest.raises(AudioError) as caught:
            read_audio(content, name="upload")
        assert str(caught.value).startswith("upload: ") and not {"<", ">", "Errno"} & set(str(caught.value).split())
        assert "object at" not in str(caught.value) and "none" not in str(caught.value)


def test_without_pyav_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackageError, match=r"^PyAV, which decodes MP3, .*pip install -r requirements\.txt"):
        read_audio(sweep_file("ogg"))
    assert len(read_audio(sweep_file("wav"))) == 48000  # which needs none


# --- floating-point samples ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2**15, 2**23, 2**31])
@pytest.mark.parametrize(
    ("format_", "subtype"), [("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("AIFF", "FLOAT"), ("W64", "FLOAT")]
)
def test_samples_at_the_scale_of_integers_are_divided_and_said_to_be(scale, format_, subtype):
    wave = np.round(sweep(1, 16000) / np.abs(sweep(1, 16000)).max() * (scale - 1))
    wave[:100] = 0
    file = io.BytesIO()
    soundfile.write(file, wave, 16000, subtype, format=format_)
    with open_decoder(file.getvalue(), "test") as decoder:
        waveform, warnings = mix_down(decoder.read(16000), decoder, "test")
        np.testing.assert_allclose(waveform, wave / scale, atol=1e-6)
        assert warnings == () and decoder.full_scale == scale
        assert f"on the scale of integers, up to {scale} in place of 1" in decoder.warnings[0]


def test_samples_somewhat_over_full_scale_are_left_alone():
    wave = 3 * sweep(1, 16000) / np.abs(sweep(1, 16000)).max()
    with open_decoder(encode(wave, 16000, "float"), "test") as decoder:
        np.testing.assert_array_equal(decoder.read(16000)[:, 0], wave.astype(np.float32))
        assert decoder.warnings == () and decoder.full_scale == 1


def test_a_quiet_beginning_does_not_hide_the_scale_of_integers():
    wave = np.concatenate((np.round(3 * np.sin(np.arange(32000))), np.round(20000 * sweep(1, 16000))))
    first, second, _ = read_windows(encode(wave, 16000, "float"), 1.0)
    assert np.abs(first.waveform).max() == pytest.approx(3 / 2**15) and first.warnings and not second.warnings


def test_samples_that_are_neither_are_refused():
    wave = 20 * sweep(1, 16000) / np.abs(sweep(1, 16000)).max()
    with pytest.raises(AudioError, match="holds samples up to 20, where -1 to 1 is expected"):
        read_audio(encode(wave, 16000, "float"))
    assert len(read_audio(encode(np.round(wave), 16000, "float"))) == 16000  # 16 bits, quiet


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "empty_moov+frag_every_frame"])
def test_a_fragmented_mp4_of_a_browser_is_read(flags):
    content = encode(sweep(3, 48_000), 48_000, "mp4", movflags=flags)
    assert len(read_audio(content)) / 16000 == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize("peak", [1000.0, 1e12])
def test_single_samples_far_beyond_are_damage(peak):
    wave = sweep(1, 16000)
    wave[5000] = peak
    with pytest.raises(
        AudioError, match=rf"^clip: holds samples up to {re.escape(f'{peak:.3g}')}, where -1 to 1 is exp"
    ):
        read_audio(encode(wave, 16000, "float"), name="clip")


# --- files ---------------------------------------------------------------------------------------------------------


def test_files_are_checked_without_being_read(tmp_path):
    check_file(GOLDEN / "clip0.wav")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioError, match=r"empty\.wav: the file is empty \(0 bytes\)"):
        check_file(tmp_path / "empty.wav")
    with pytest.raises(AudioError, match="no such audio file"):
        check_file(tmp_path)
    with pytest.raises(AudioError, match=r"^upload: is empty \(0 bytes\)"):
        read_audio(b"", name="upload")


def test_a_rate_or_a_number_of_channels_that_changes(monkeypatch):
    """As where one stream follows another; the first tells what the others must be."""
    decoder = AvDecoder(io.BytesIO(sweep_file("flac")), "radio")

    def frame(rate: int, layout: str) -> av.AudioFrame:
        channels = 2 if layout == "stereo" else 1
        made = av.AudioFrame.from_ndarray(np.full((channels, 10), 0.5, np.float32), format="fltp", layout=layout)
        made.sample_rate = rate
        return made

    assert decoder.block_of(frame(16000, "stereo")).shape == (10, 1)
    with pytest.raises(
        AudioError, match=r"^radio: its sample rate changes from 16000 to 44100 Hz after \d\.\d\d s; convert it to one$"
    ):
        decoder.block_of(frame(44100, "mono"))


def test_demuxers_are_ffmpegs_names():
    known = {part for name in av.formats_available for part in name.split(",")}
    assert set(DEMUXERS.split(",")) - known == set()


@pytest.mark.filterwarnings("error")  # NumPy's
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("peak", [0.5, 20_000])  # at full scale, at that of integers
@pytest.mark.parametrize("promised", [None, 0x7FFFFFFF], ids=["whole", "never finished"])  # libsndfile, PyAV
def test_signalling_nans_are_named_as_others_are(dtype, peak, promised):
    samples = np.full(1600, peak, dtype=dtype)
    bits = samples.view(f"u{samples.itemsize}")
    bits[::2] = 0x7FA00001 if dtype == np.float32 else 0x7FF4000000000001
    head = struct.pack("<4sI4s4sIHHII", b"RIFF", 36 + samples.nbytes, b"WAVE", b"fmt ", 16, 3, 1, 16_000, 64_000)
    head = head[:-4] + struct.pack("<IHH", 16_000 * samples.itemsize, samples.itemsize, 8 * samples.itemsize)
    with pytest.raises(AudioError, match="holds NaN or infinite samples"):
        read_audio(head + struct.pack("<4sI", b"data", promised or samples.nbytes) + samples.tobytes())


@pytest.mark.parametrize("encoder", ["pcm_s16be", "pcm_f32be", "pcm_alaw", "adpcm_ima_qt"])
def test_quicktime_counts_samples_or_packets(encoder, monkeypatch):
    """A recorder's: as many samples as the header lists, not packets."""
    monkeypatch.setitem(WITH_AV, "mov", ("mov", encoder))
    assert len(read_audio(sweep_file("mov"))) == pytest.approx(3 * 16_000, abs=100)


@pytest.mark.parametrize("encoder", ["pcm_s16le", "libmp3lame", "ac3"])
def test_sound_of_avi_is_whole_or_called_cut(encoder, monkeypatch):
    monkeypatch.setitem(WITH_AV, "avi", ("avi", encoder))
    content = encode(sweep(3.0, 48_000), 48_000, "avi")
    assert len(read_audio(content)) == pytest.approx(3 * 16_000, abs=1000)
    with pytest.raises(AudioError, match=r"the file is cut: 1\.\d\d s are left of the \d\.\d\d s"):
        read_audio(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n",
            "is a pointer of Git LFS, not the sound",
        ),
        (b"\n<!DOCTYPE html><title>404</title>", "is a web page, not sound"),
    ],
)
def test_what_stands_in_place_of_a_file_is_named(content, message):
    with pytest.raises(AudioError, match=f"audio bytes: {message}"):
        read_audio(content)
