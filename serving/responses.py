"""OpenAI's chat completions: what is sent back of an answer, whole or while it grows."""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from serving.batching import AnswerPrefix
from serving.live_answer import UNFINISHED, has_end
from serving.validation import ValidatedRequest

DONE = "data: [DONE]\n\n"


@dataclass(frozen=True)
class AnswerText:
    """What an answer says so far."""

    text: str  # longer beginnings of an answer give longer texts that begin alike
    num_tokens: int  # that carry text, a stop string and what follows it included
    finish_reason: str | None  # "stop" or "length"; None: more is to come


def read_answer(
    tokenizer: PreTrainedTokenizerBase, answer: AnswerPrefix, num_tokens: int, stops: Sequence[str]
) -> AnswerText:
    """The text of an answer's first `num_tokens` tokens up to a stop string, without space around it.

    "stop" is that the model ended the answer, or a stop string did. Of an incomplete answer, characters are held back
    that may yet become part of something else: of a character of several tokens, of a stop string.
    """
    ids = answer.ids[:num_tokens]
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    count = sum(index not in special for index in ids)
    text = tokenizer.decode(ids, skip_special_tokens=True).lstrip()
    if not answer.is_complete or len(ids) < len(answer.ids):
        text = text.rstrip(UNFINISHED)
    places = [place for place in map(text.find, stops) if place >= 0]
    if places:
        return AnswerText(text[: min(places)].rstrip(), count, "stop")
    if not answer.is_complete:
        held_back = max(map(len, stops), default=1) - 1
        return AnswerText(text[: max(0, len(text) - held_back)].rstrip(), count, None)
    return AnswerText(text.rstrip(), count, "stop" if has_end(tokenizer, ids) else "length")


@dataclass
class Completion:
    """One chat completion on its way to the client."""

    request: ValidatedRequest
    tokenizer: PreTrainedTokenizerBase
    reply: AnswerText = AnswerText("", 0, None)
    forward_passes: int = 0
    sent: str = ""  # as chunks
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def read(self, answer: AnswerPrefix) -> None:
        """Take in what there is of the answer."""
        stops = self.request.parameters.stop or ()
        self.reply = read_answer(self.tokenizer, answer, self.request.generation.num_tokens, stops)
        self.forward_passes = answer.forward_passes

    def whole(self) -> dict:
        """The response to a request without `stream`."""
        message = {"role": "assistant", "content": self.reply.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.reply.finish_reason}
        return self.envelope("chat.completion", [choice]) | {"usage": self.usage()} | self.warning()

    def opening(self) -> str:
        """The first event of a stream."""
        return self.event({"role": "assistant", "content": "", "refusal": None}, **self.warning())

    def growth(self) -> Iterator[str]:
        """Events for what was read since the last call; after the end of the answer, the last ones."""
        if len(self.reply.text) > len(self.sent):
            yield self.event({"content": self.reply.text[len(self.sent) :]})
            self.sent = self.reply.text
        if self.reply.finish_reason:
            yield self.event({}, self.reply.finish_reason)
            if self.request.parameters.include_usage:
                yield as_event(self.envelope("chat.completion.chunk", []) | {"usage": self.usage()})
            yield DONE

    def event(self, delta: dict, finish_reason: str | None = None, **more: str) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self.request.parameters.include_usage else {}
        return as_event(self.envelope("chat.completion.chunk", [choice]) | usage | more)

    def envelope(self, kind: str, choices: list[dict]) -> dict:
        model = self.request.parameters.model
        return {"id": self.id, "object": kind, "created": self.created, "model": model, "choices": choices}

    def usage(self) -> dict:
        prompt, answer = self.request.prompt_tokens, self.reply.num_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
            "forward_passes": self.forward_passes,
        }

    def warning(self) -> dict[str, str]:
        return {"warning": self.request.warning} if self.request.warning else {}


def as_event(data: dict) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(data)}\n\n"
