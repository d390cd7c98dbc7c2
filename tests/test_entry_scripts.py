"""Every entry script prints `script.py: message` and exits with status 2 where its user made a mistake."""

import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # runpy's, of modules that are imported already
ROOT = Path(__file__).parent.parent
CLIP = str(ROOT / "examples" / "clip.wav")
NO_MODEL = ["--model_path", "./none"]
NO_CHECKPOINT = "the DIFFA checkpoint: no folder './none'"
MISSING = "none.json: no such file"
CASES = {  # script or module -> flags, the message's beginning
    "ask.py": ([CLIP, "Why?", *NO_MODEL], NO_CHECKPOINT),
    "app.py": (NO_MODEL, NO_CHECKPOINT),
    "serve.py": (NO_MODEL, NO_CHECKPOINT),
    "inference_stage1_asr.py": (["--input", "m.json", "--output", "o.jsonl", *NO_MODEL], "m.json: no such"),
    "inference_stage2_mmsu.py": (["--input", "m.jsonl", "--output", "o.jsonl", *NO_MODEL], "m.jsonl: no s"),
    "inference_stage2_mmau.py": (["--input", "m.json", "--output", "o.json", *NO_MODEL], "m.json: no such"),
    "inference_stage2_mmar.py": (["--input", "m.json", "--output", "o.json", *NO_MODEL], "m.json: no such"),
    "inference_stage2_mmaupro.py": (["--input", "m.json", "--output", "o.jsonl", *NO_MODEL], "m.json: no such"),
    "inference_stage2_airbench.py": (["--input", "m.json", "--output", "o.jsonl", *NO_MODEL], "m.json: no such"),
    "inference_stage2_bigbenchaudio.py": (["--input", "m.jsonl", "--output", "o.jsonl", *NO_MODEL], "m.jsonl: no s"),
    "inference_stage2_voicebench.py": (["--input", "d", "--output", "o", *NO_MODEL], "d/alpacaeval holds nei"),
    "mmsu/evaluate.py": (["none.json"], MISSING),
    "mmau/evaluate.py": (["none.json"], MISSING),
    "mmar/evaluate.py": (["none.json"], MISSING),
    "mmaupro/evaluate.py": (["none.json"], MISSING),
    "airbench/evaluate.py": (["none.json"], MISSING),
    "bigbenchaudio/evaluate.py": (["none.json"], MISSING),
    "asr/evaluate.py": (["none.json"], MISSING),
    "voicebench/evaluate.py": (["none.json"], MISSING),
    "voicebench/judge.py": (["none.json", "--base_url", "http://localhost/v1", "--model", "m"], MISSING),
    "evaluation.report": (["none.json"], MISSING),
    "evaluation.report_card": (["none.json"], MISSING),
    "src.manifest": (["check", "none.json"], "manifest none.json cannot be read"),
    "src.export": (["peft", "./none"], NO_CHECKPOINT),
    "src.plot_training": (["none"], "none holds neither trainer_state.json nor"),
    "data_prep/accentdb.py": (["none", "o.json"], "none"),
    "data_prep/dailytalk.py": (["none", "o.json"], "none"),
    "data_prep/iemocap.py": (["none", "o.json"], "none"),
    "data_prep/librispeech.py": (["none", "o.json"], "none"),
    "data_prep/vctk.py": (["none", "o.json"], "none"),
    "data_prep/voxceleb1.py": (["none", "o.json"], "none"),
    "data_prep/synthesize_qa.py": (
        ["none.json", "--output", "o.json", "--base_url", "http://localhost/v1", "--model", "m"], "manifest none.json",
    ),
    "data_prep/synthesize_preferences.py": (
        ["none.json", "--output", "o.json", "--base_url", "http://localhost/v1", "--model", "m"], "manifest none.json",
    ),
    "perf/decoding.py": (["--device", "nonsense"], "--device nonsense is unknown"),
    "perf/training.py": (["--device", "nonsense"], "--device nonsense is unknown"),
    "perf/preference.py": (["--device", "nonsense"], "--device nonsense is unknown"),
    "perf/real_shape.py": (["--device", "nonsense"], "--device nonsense is unknown"),
    "perf/full_size.py": (["--device", "nonsense"], "--device nonsense is unknown"),
    "perf/launches.py": (["--n_layers", "0"], "--n_layers is 0; expected 1 or more"),
    "perf/gpu.py": (["--dry-run", "--out", "a_file"], "[Errno 17] File exists: "),
    "perf/presets.py": (NO_MODEL, "run_mmsu_inference.sh failed with exact decoding"),
    "demo/make_data.py": (["--output", "a_file"], "[Errno 17] File exists: 'a_file'"),
    "demo/diffa2_summary.py": (["none"], "none/stage4 holds neither trainer_state.json nor"),
    "demo/make_diffa2_data.py": (["none"], "none/stage1.json: no such file"),
    "demo/pretrain_llada.py": (["--output", "a_file"], "[Errno 17] File exists: 'a_file'"),
    "demo/pretrain_whisper.py": (["--output", "a_file"], "[Errno 17] File exists: 'a_file'"),
    "demo/summary.py": (["none"], "none/results/asr.jsonl.scores.json: no such file"),
    "examples/make_clips.py": (["--output", "a_file"], "[Errno 17] File exists: 'a_file'"),
}  # fmt: skip
# train.py ends with its launcher, so tests/test_train.py starts it; src/manifest.py runs src/manifest_check.py.
ELSEWHERE = {"train.py", "src/manifest_check.py", "perf/feeding.py"}
NOT_FOR_USERS = {  # these make the documents' pictures and tables, and take no flags
    "docs/draw_architecture.py",
    "docs/draw_screenshots.py",
    "perf/training_budget.py",
}


@pytest.mark.parametrize("script", CASES)
def test_a_mistake_is_one_message_and_status_2(script, tmp_path, monkeypatch, capsys):
    flags, message = CASES[script]
    path = ROOT / (script if script.endswith(".py") else f"{script.replace('.', '/')}.py")
    (tmp_path / "a_file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), *flags])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 2))
    with pytest.raises(SystemExit) as end:
        if script.endswith(".py"):
            runpy.run_path(str(path), run_name="__main__")
        else:
            runpy.run_module(script, run_name="__main__")
    assert end.value.code == 2
    error = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert error[0].startswith(f"{path.name}: {message}"), error


def test_the_table_names_every_script():
    scripts = {
        str(path.relative_to(ROOT))
        for pattern in ("*.py", "*/*.py")
        for path in ROOT.glob(pattern)
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    }
    scripts = {name for name in scripts if not name.startswith("tests/")}
    tested = {name if name.endswith(".py") else f"{name.replace('.', '/')}.py" for name in CASES}
    assert scripts == tested | ELSEWHERE | NOT_FOR_USERS


def test_every_error_class_is_a_user_error():
    """The scripts list no classes: what derives from UserError is reported. A server's errors go to its clients."""
    classes = [
        found
        for path in ROOT.glob("*/*.py")
        if path.parent.name not in ("tests", "serving")
        for found in re.findall(r"^class (\w+Error)\((\w+)\)", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(classes) > 10
    known = {name for name, base in classes if base == "UserError"} | {"UserError"}
    assert [name for name, base in classes if base not in known and name not in known] == []
