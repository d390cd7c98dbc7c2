"""ask.py, app.py and serve.py with a checkpoint of DIFFA-2: the published fast mode, down to the recorded text."""

import json

import openai
import pytest

import app
import ask
import serve
from src.audio import read_audio
from src.inference_flags import options_of
from src.loading import load_model
from tests.conftest import GOLDEN2
from tests.serving.test_page import answer_text
from tests.test_serve import about, serving

CASES = json.loads((GOLDEN2 / "golden.json").read_text())["generate"]
CASE = next(case for case in CASES if case.get("why", "").startswith("the published benchmark"))
CLIP, TEXT = GOLDEN2 / f"clip{CASE['clip']}.wav", CASE["text"].strip()
FLAGS = [
    "--model_path", str(GOLDEN2 / "diffa2_stage4"), "--llm_path", str(GOLDEN2 / "llada"),
    "--whisper_path", str(GOLDEN2 / "whisper"), "--device", "cpu", "--use_lora", "True", "--accelerate", "fast_dllm",
    "--steps", "16", "--block_length", "16", "--max_new_tokens", "16",
]  # fmt: skip


def test_ask(capsys):
    assert ask.main([str(CLIP), CASE["question"], *FLAGS, "--json"]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert (answer["answer"], answer["forward_passes"]) == (TEXT, CASE["forward_passes"])
    assert "diffa2_stage4 is a DIFFA-2 checkpoint" in printed.err


def test_app():
    args = app.make_parser().parse_args(FLAGS)
    clip = app.load_clip(CLIP, args, 30.0)
    *_, (_, shown) = app.answer(load_model(args), clip, CASE["question"], options_of(args))
    assert answer_text(shown).strip() == TEXT


@pytest.mark.slow
def test_serve(tmp_path):
    with serving(tmp_path / "log", *FLAGS) as (_, address):
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        completion = client.chat.completions.create(model="diffa", messages=about(CLIP, CASE["question"]))
    assert completion.choices[0].message.content == TEXT
    assert completion.usage.forward_passes == CASE["forward_passes"]


def test_another_system_prompt_reaches_the_model():
    args = serve.make_parser().parse_args([*FLAGS, "--system_prompt", "long"])
    assert load_model(args).generate([read_audio(CLIP)], [CASE["question"]], options_of(args)) != [CASE["text"]]
