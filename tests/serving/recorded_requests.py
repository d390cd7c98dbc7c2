"""What clients send that nobody here wrote: headers and bodies, written by hand after what they were seen to send
(openai for Python 3.57, for Node 6.49, LiteLLM 1.110, LangChain's openai package 1.7, llm 0.36, lmms-eval 0.7.3).

In bodies, "@b64" stands for the base64 of a WAV clip, "@webm" for that of a WebM recording; forms have the clip as
`file`.
"""

from dataclasses import dataclass, field
from typing import Any

QUESTION = "Which colour is named?"
TEXT = {"type": "text", "text": QUESTION}
AUDIO = {"type": "input_audio", "input_audio": {"data": "@b64", "format": "wav"}}
AUDIO_URL = {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64,@b64"}}
STAINLESS = {
    "Accept": "application/json",
    "Authorization": "Bearer none",
    "X-Stainless-Arch": "x64",
    "X-Stainless-OS": "Linux",
    "X-Stainless-Retry-Count": "0",
    "X-Stainless-Read-Timeout": "600",
}
PYTHON = STAINLESS | {
    "User-Agent": "OpenAI/Python 3.57.0",
    "X-Stainless-Async": "false",
    "X-Stainless-Lang": "python",
    "X-Stainless-Package-Version": "3.57.0",
    "X-Stainless-Runtime": "CPython",
    "X-Stainless-Runtime-Version": "3.11.7",
}
NODE = STAINLESS | {
    "User-Agent": "OpenAI/JS 6.49.0",
    "X-Stainless-Lang": "js",
    "X-Stainless-Package-Version": "6.49.0",
    "X-Stainless-Runtime": "node",
    "X-Stainless-Runtime-Version": "v20.20.2",
}
CHROMIUM = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-US,en;q=0.9",
    "Authorization": "bearer none",
    "Origin": "http://localhost:5173",
    "Referer": "http://localhost:5173/",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "cross-site",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0",
}


def user(*parts: dict) -> dict:
    return {"role": "user", "content": list(parts)}


@dataclass(frozen=True)
class Recorded:
    """A request; it has a JSON body or a form."""

    name: str
    headers: dict[str, str]
    body: dict[str, Any] | None = None
    form: dict[str, str] = field(default_factory=dict)


LMMS_EVAL = (  # version 0.7.3; its six forms, gpt4o_audio with and without --gen_kwargs top_p=1
    Recorded(
        "lmms-eval gpt4o_audio", PYTHON,
        {"messages": [user(AUDIO, TEXT)], "model": "diffa", "modalities": ["text"], "max_tokens": 4096,
         "temperature": 0, "top_p": 0.95},
    ),
    Recorded(
        "lmms-eval gpt4o_audio, top_p=1", PYTHON,
        {"messages": [user(AUDIO, TEXT)], "model": "diffa", "modalities": ["text"], "max_tokens": 128,
         "temperature": 0, "top_p": 1},
    ),
    Recorded(
        "lmms-eval openai --force_simple, files", PYTHON,
        {"model": "diffa", "messages": [user(TEXT, AUDIO)], "max_tokens": 1024, "temperature": 0},
    ),
    Recorded(
        "lmms-eval openai, audio_url", PYTHON,
        {"messages": [user(AUDIO_URL, TEXT)], "model": "diffa", "max_tokens": 8192, "temperature": 0},
    ),
    Recorded(
        "lmms-eval async_openai, audio_url", PYTHON | {"X-Stainless-Async": "async:asyncio"},
        {"messages": [user(AUDIO_URL, TEXT)], "model": "diffa", "max_tokens": 1024, "temperature": 0},
    ),
    Recorded(
        "lmms-eval openai with enable_thinking_kwarg=False", PYTHON,
        {"messages": [user(AUDIO_URL, TEXT)], "model": "diffa", "max_tokens": 16, "temperature": 0,
         "chat_template_kwargs": {"enable_thinking": False}},
    ),
)  # fmt: skip
# Arrays that `openai` is given for files are left out by lmms-eval itself; a question without audio is all that comes.
WITHOUT_AUDIO = Recorded(
    "lmms-eval openai --force_simple, arrays", PYTHON,
    {"model": "diffa", "messages": [user(TEXT)], "max_tokens": 1024, "temperature": 0},
)  # fmt: skip
QUESTIONS = (
    *LMMS_EVAL,
    Recorded("openai for Python", PYTHON, {"messages": [user(AUDIO, TEXT)], "model": "diffa", "max_tokens": 16}),
    Recorded(
        "openai for Node", NODE, {"model": "diffa", "messages": [user(AUDIO, TEXT)], "max_completion_tokens": 512}
    ),
    Recorded(
        "LiteLLM", PYTHON,
        {"messages": [user(TEXT, AUDIO)], "model": "diffa", "max_tokens": 128, "temperature": 0.0, "user": "me"},
    ),
    Recorded(
        "LangChain", PYTHON,
        {"messages": [{"content": [TEXT, AUDIO], "role": "user"}], "model": "diffa", "stream": False},
    ),
    Recorded(
        "LangChain, older", PYTHON,
        {"messages": [{"content": [TEXT, AUDIO], "role": "user"}], "model": "diffa", "n": 1, "stream": False,
         "temperature": 0.0, "max_tokens": 256},
    ),
    Recorded(
        "curl", {"User-Agent": "curl/8.14.1", "Accept": "*/*"}, {"model": "diffa", "messages": [user(TEXT, AUDIO)]}
    ),
    Recorded("Chromium", CHROMIUM, {"model": "diffa", "messages": [user(TEXT, AUDIO)], "max_tokens": 64}),
)  # fmt: skip
CONVERSATIONS = (  # whose last turn asks QUESTION about the clip
    Recorded(
        "llm --continue --no-stream", PYTHON,
        {"messages": [user({"type": "text", "text": "What is it?"}, AUDIO), {"role": "assistant", "content": "speech"},
                      {"role": "user", "content": QUESTION}],
         "model": "diffa", "stream": False},
    ),
    Recorded(
        "LangChain with memory", PYTHON,
        {"messages": [{"content": "You are a helpful voice assistant.", "role": "system"},
                      {"content": "Hello", "role": "user"}, {"content": "Hi", "role": "assistant"},
                      {"content": [TEXT, AUDIO], "role": "user"}],
         "model": "diffa", "stream": False, "max_completion_tokens": 256, "temperature": 0.0},
    ),
)  # fmt: skip
STREAMS = (
    Recorded(
        "llm", PYTHON,
        {"messages": [user(TEXT, AUDIO)], "model": "diffa", "stream": True,
         "stream_options": {"include_usage": True}},
    ),
    Recorded("openai for Node", NODE, {"model": "diffa", "messages": [user(AUDIO, TEXT)], "stream": True}),
    Recorded(
        "LiteLLM", PYTHON,
        {"messages": [user(TEXT, AUDIO)], "model": "diffa", "stream": True, "stream_options": {"include_usage": True}},
    ),
)  # fmt: skip
RECORDED_IN_A_BROWSER = Recorded(
    "Chromium, a WebM recording", CHROMIUM,
    {"model": "diffa", "messages": [user(TEXT, {"type": "input_audio", "input_audio": {
        "data": "data:audio/webm;codecs=opus;base64,@webm", "format": "webm"}})]},
)  # fmt: skip
TRANSCRIPTIONS = (
    Recorded("openai for Python", PYTHON, form={"model": "diffa"}),
    Recorded("openai for Node", NODE, form={"model": "diffa", "response_format": "json"}),
    Recorded("LiteLLM", PYTHON, form={"model": "diffa", "response_format": "verbose_json"}),
    Recorded(
        "openai for Python, verbose", PYTHON,
        form={"model": "diffa", "response_format": "verbose_json", "timestamp_granularities[]": "segment",
              "language": "en", "temperature": "0"},
    ),
    Recorded("curl -F", {"User-Agent": "curl/8.14.1", "Accept": "*/*"}, form={"model": "diffa"}),
    Recorded("Chromium, FormData", CHROMIUM, form={"model": "diffa"}),
)  # fmt: skip
