"""What texts hold that nobody meant to write: bytes of another encoding, control tokens, control characters."""

import re
from collections.abc import Iterator

CONTROL_TOKEN = re.compile(r"<\|[a-zA-Z_]+\|>")  # LLaDA's: <|eot_id|>, <|endoftext|>, <|mdm_mask|>, ...
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # all but tab and ends of lines


def faults_of(text: str) -> Iterator[str]:
    """In words that go on after the text's name; nothing for a text that is as it should be."""
    if "\ufffd" in text:
        yield "holds U+FFFD, which stands for bytes that were no UTF-8: read the source in its own encoding"
    if token := CONTROL_TOKEN.search(text):
        yield f"holds {token[0]}, a control token of the model, which is more than text"
    if control := CONTROL_CHARACTER.search(text):
        yield f"holds the control character U+{ord(control[0]):04X}"
