"""Requests to a model behind an OpenAI-compatible endpoint, with retries.

The openai client's own retries would not do: it waits 8 s at most between two tries, gives up at once where Retry-After
is above two minutes, and takes a reply that is no completion (a proxy's page, an empty list of choices) as final.
"""

import argparse
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TypeVar

import requests
from tqdm import tqdm
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from src.errors import UserError
from src.flag_types import finite_number, fraction, positive_number, whole_number

# Not 403: some endpoints say so of a single question that their filter flags.
FATAL = {
    401: "the key is not accepted: give one in the environment variable OPENAI_API_KEY, or the one of --api_key_env",
    404: "there is no such address or model",
}
BROKEN_OFF = ("abort", "error", "insufficient_system_resource")  # finish reasons; another try may succeed
PASSING = (408, 409, 425, 429)  # and all from 500 on: another try may succeed
MAX_RETRY_AFTER = 600  # seconds; a longer Retry-After is cut to this
MAX_BACKOFF = 60.0  # seconds between two tries
MAX_FAILURES_IN_A_ROW = 20  # questions; then nothing more is asked

# <think>, <seed:think>, [THINK], ◁think▷; and gpt-oss's channels, of which "final" alone is the answer.
_NAMES = r"(?:\w+:)?(?:think|thinking|thought|reasoning)"
_THOUGHT = re.compile(rf"[<\[◁]{_NAMES}[>\]▷]|<\|channel\|>(?!final)", re.IGNORECASE)
_END_OF_THOUGHT = re.compile(rf"[<\[◁]/{_NAMES}[>\]▷]|<\|channel\|>final(?:<\|message\|>)?", re.IGNORECASE)

Q = TypeVar("Q")
A = TypeVar("A")


class NoReply(Exception):
    """One question could not be answered; the message says why. Others may still be."""


class BrokenOff(Exception):
    """A reply ended before its end; the message says how. Another try may bring all of it."""


class EndpointError(UserError):
    """Nothing can be answered at all; the message says why and what to do."""


@dataclass(frozen=True)
class Reply:
    """What an endpoint said."""

    text: str
    cut: str = ""  # why it is not whole, in words; empty where it is


@dataclass(frozen=True)
class Endpoint:
    """A chat-completions endpoint, and how to ask it."""

    url: str
    model: str
    key: str = field(repr=False)
    temperature: float
    top_p: float
    max_tokens: int
    timeout: float  # seconds without a sign of life
    tries: int  # of one request
    backoff: float  # seconds before the second try, doubled for each further one, up to a minute

    def ask(self, messages: Sequence[dict]) -> Reply:
        """Raises NoReply when every try failed, EndpointError when none can succeed."""
        body = {"model": self.model, "messages": messages, "temperature": self.temperature, "top_p": self.top_p,
                "max_tokens": self.max_tokens}  # fmt: skip
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        for attempt in range(self.tries):
            backoff = min(MAX_BACKOFF, self.backoff * 2**attempt)
            wait = backoff * random.uniform(0.5, 1.0)  # so that many do not come at once
            try:
                response = requests.post(self.url, json=body, headers=headers, timeout=self.timeout)
                if response.status_code == 200:
                    return self.read(response.json()["choices"][0])
                reason = f"HTTP {response.status_code}: {response.text[:200]}"
                if response.status_code in FATAL:
                    raise EndpointError(f"{self.url}: {FATAL[response.status_code]} ({reason})")
                if response.status_code not in PASSING and response.status_code < 500:
                    raise NoReply(reason)  # the endpoint will not take this question
                asked_for = retry_after(response)
                wait = wait if asked_for is None else min(asked_for, MAX_RETRY_AFTER)
            except requests.RequestException as error:  # time-outs, cut connections, replies that are no JSON
                reason = f"{type(error).__name__}: {str(error)[:200]}"
            except BrokenOff as error:
                reason = str(error)
            except (KeyError, IndexError, TypeError):
                reason = f"not a chat completion: {response.text[:200]}"
            if attempt + 1 < self.tries:
                time.sleep(wait)
        raise NoReply(f"{reason} (after {self.tries} tries)")

    def read(self, choice: Mapping) -> Reply:
        """Raises BrokenOff, and KeyError or TypeError for what is no choice of a chat completion."""
        content, cut = choice["message"]["content"], ""
        if isinstance(content, list):  # parts, thoughts among them
            content = "".join(part["text"] for part in content if part["type"] == "text")
        if not isinstance(content, str | None):
            raise TypeError
        finish_reason = str(choice.get("finish_reason"))
        if finish_reason in BROKEN_OFF:
            raise BrokenOff(f"the reply broke off, finish_reason {finish_reason}: {content!r:.200}")
        if finish_reason == "length":
            cut = f"the reply is cut at {self.max_tokens} tokens: raise --max_tokens"
        elif finish_reason.startswith("content_filter"):  # Gemini adds why: "content_filter: SAFETY"
            cut = "the reply is cut by the endpoint's filter: ask another model"
        return Reply(content or "", cut)

    def check(self, messages: Sequence[dict]) -> None:
        """Ask once, before anything is discarded. Raises EndpointError where no reply comes."""
        try:
            self.ask(messages)
        except NoReply as reason:
            raise EndpointError(
                f"{self.url} does not answer: {reason}. Nothing was discarded: start again once it does"
            ) from None


def visible_answer(reply: str) -> str:
    """What a model that thinks aloud says after its thoughts; nothing where a thought is not finished.

    Of the tags, some endpoints leave out the first one: what stands before `</think>` is a thought all the same.
    """
    answer = _END_OF_THOUGHT.split(reply)[-1]
    return "" if _THOUGHT.search(answer) else answer


def retry_after(response: requests.Response) -> float | None:
    """The seconds that the Retry-After header asks to wait, given as seconds or as a date; None without one."""
    try:
        return Retry().get_retry_after(response.raw)
    except InvalidHeader:
        return None


def ask_all(
    ask: Callable[[Q], A], questions: Sequence[Q], concurrency: int, unit: str, desc: str
) -> Iterator[tuple[Q, A | NoReply]]:
    """Yield every question with its answer, or why there is none, as they come; `concurrency` at a time.

    Raises EndpointError when there is no use in asking on, after all answers that came, also while others were awaited.
    """
    failures_in_a_row = 0
    pool = ThreadPoolExecutor(max_workers=concurrency)
    try:
        asked = {pool.submit(ask, question): question for question in questions}
        waiting = dict(asked)
        for answered in tqdm(as_completed(asked), total=len(asked), unit=unit, desc=desc):
            try:
                answer, failures_in_a_row = answered.result(), 0
            except NoReply as reason:
                answer, failures_in_a_row = reason, failures_in_a_row + 1
            yield waiting.pop(answered), answer
            if failures_in_a_row == MAX_FAILURES_IN_A_ROW:
                raise EndpointError(
                    f"{failures_in_a_row} questions failed one after the other, the last one: {answer}. "
                    "Mend that, and start again"
                )
    except (EndpointError, KeyboardInterrupt):
        pool.shutdown(wait=True, cancel_futures=True)
        for answered, question in waiting.items():
            if not answered.cancelled() and answered.exception() is None:
                yield question, answered.result()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def add_endpoint_flags(parser: argparse.ArgumentParser, temperature: float, top_p: float, max_tokens: int) -> None:
    """The flags that `endpoint_of` reads, and `--concurrency`; the numbers are their defaults."""
    parser.add_argument("--base_url", required=True, help="address of the endpoint, up to and with /v1")
    parser.add_argument("--model", required=True, help="the model's name there")
    parser.add_argument("--api_key_env", default="OPENAI_API_KEY",
                        help="environment variable with the key, if there is one (default: %(default)s)")  # fmt: skip
    parser.add_argument("--temperature", type=finite_number, default=temperature, help="default: %(default)s")
    parser.add_argument("--top_p", type=fraction, default=top_p, help="default: %(default)s")
    parser.add_argument(
        "--max_tokens", type=whole_number(1), default=max_tokens, help="of a reply (default: %(default)s)"
    )
    parser.add_argument(
        "--concurrency", type=whole_number(1), default=8, help="requests at a time (default: %(default)s)"
    )
    parser.add_argument("--timeout", type=positive_number, default=60.0, help="seconds (default: %(default)s)")
    parser.add_argument(
        "--tries", type=whole_number(1), default=6, help="of a request that fails (default: %(default)s)"
    )
    parser.add_argument("--backoff", type=positive_number, default=1.0,
                        help="seconds before the second try, doubled each time (default: %(default)s)")  # fmt: skip


def endpoint_of(args: argparse.Namespace) -> Endpoint:
    """Raises EndpointError for an address that is none, and for a key that no header can hold."""
    if not re.match(r"https?://\w", args.base_url):
        raise EndpointError(f"--base_url {args.base_url!r} must begin with http:// or https://, as in http://HOST/v1")
    key = os.environ.get(args.api_key_env, "").strip()
    if not re.fullmatch("[!-~]*", key):  # requests would show it in its error
        raise EndpointError(
            f"the key in the environment variable {args.api_key_env} holds blanks or characters that are not ASCII; "
            "expected one word: copy it again"
        )
    return Endpoint(
        url=args.base_url.rstrip("/") + "/chat/completions",
        model=args.model,
        key=key,
        temperature=args.temperature,
        top_p=args.top_p,
        max_tokens=args.max_tokens,
        timeout=args.timeout,
        tries=args.tries,
        backoff=args.backoff,
    )
