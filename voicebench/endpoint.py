"""Asking a model behind an OpenAI-compatible endpoint, through everything that may go wrong on the way."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

FATAL = {
    401: "the key is not accepted",
    403: "the key may not use this model",
    404: "there is no such address or model",
}
PASSING = (408, 409, 425, 429)  # and all from 500 on: another try may succeed
LONGEST_WAIT = 600  # seconds; a longer Retry-After is cut to this


class NoVerdict(Exception):
    """One verdict could not be had; the message says why. Others may still be."""


class EndpointError(Exception):
    """No verdict can be had at all; the message says why and what to do."""


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

    def ask(self, messages: Sequence[dict]) -> str:
        """The reply's text. Raises NoVerdict when every try failed, EndpointError when none can succeed."""
        body = {"model": self.model, "messages": messages, "temperature": self.temperature, "top_p": self.top_p,
                "max_tokens": self.max_tokens}  # fmt: skip
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        for attempt in range(self.tries):
            wait = min(60.0, self.backoff * 2**attempt) * random.uniform(0.5, 1.0)  # so that many do not come at once
            try:
                response = requests.post(self.url, json=body, headers=headers, timeout=self.timeout)
                if response.status_code == 200:
                    return str(response.json()["choices"][0]["message"]["content"] or "")
                reason = f"HTTP {response.status_code}: {response.text[:200]}"
                if response.status_code in FATAL:
                    raise EndpointError(f"{self.url}: {FATAL[response.status_code]} ({reason})")
                if response.status_code not in PASSING and response.status_code < 500:
                    raise NoVerdict(reason)  # the endpoint will not take this question
                asked_for = retry_after(response)
                wait = wait if asked_for is None else min(asked_for, LONGEST_WAIT)
            except requests.RequestException as error:  # time-outs, cut connections, replies that are no JSON
                reason = f"{type(error).__name__}: {str(error)[:200]}"
            except (KeyError, IndexError, TypeError):
                reason = f"not a chat completion: {response.text[:200]}"
            if attempt + 1 < self.tries:
                time.sleep(wait)
        raise NoVerdict(f"{reason} (after {self.tries} tries)")


def retry_after(response: requests.Response) -> float | None:
    """The seconds that the Retry-After header asks to wait, given as seconds or as a date; None without one."""
    try:
        return Retry().get_retry_after(response.raw)
    except InvalidHeader:
        return None
