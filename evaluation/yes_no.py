"""Yes and no in an answer, where they answer: not "no idea", "nobody", "knows no bounds", "yes men"."""

import re

# Behind the word: the end, a mark, or the subject of a sentence. Not "yes men", "no one".
_SAID = (
    r"\b(?P<said>no way|yes|yeah|yep|yup|no|nope|nah|true|false)\b(?=\s*(?:$|[^\w\s'])"
    r"|\s+(?:the|this|that|these|it|you|i|we|he|she|they|there|because|since|as)\b)"
)
_BEFORE = re.compile(
    r"(?:^|[^\w\s']|\b(?:is|be|answer|conclusion|say|choose|so|therefore|thus|hence|then|think|definitely|certainly|probably|"
    r"absolutely|clearly|simply|just|would)\b)[\s\"'(\[]*$"
)
_SAME = {"yeah": "yes", "yep": "yes", "yup": "yes", "no way": "no", "nope": "no", "nah": "no"}
_NEGATED = re.compile(r"\b(?:not|never|neither)(?: \w+){0,2} $")


def find_yes_no(text: str) -> list[tuple[str, int, int]]:
    """(yes, no, true or false; start; end) of each answering word in a cleaned text, in order."""
    lower, found = text.casefold(), []
    for match in re.finditer(_SAID, lower):
        before = lower[: match.start()]
        if _BEFORE.search(before) and not _NEGATED.search(before):
            found.append((_SAME.get(match["said"], match["said"]), match.start(), match.end()))
    return found
