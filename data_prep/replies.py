"""What scripts that ask a text LLM share: questions asked side by side, replies on disk as they come, refusals told."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.endpoint import Endpoint, NoReply, Reply, ask_all, visible_answer
from evaluation.journal import AnswerRecord, Journal, is_written, partial_files, remove_answers
from src.errors import is_unicode
from src.text_faults import faults_of

NOT_ASKED = "nothing was asked"  # the error that is kept of a question that could not be put
MAX_SHOWN = 20  # failures named at the end
# What a speaker says is no refusal of the LLM's; a quoted UNKNOWN is.
QUOTED = re.compile(r"[\"“«](?!UNKNOWN\W*[\"”»])[^\"“”«»]*[\"”»]")
REFUSAL = re.compile(
    r"""
      \b (?-i:UNKNOWN) \b | ^\W* unknown\W*$
    | ^\W* (?: i['’]m\s | i\sam\s )? sorry\b .{0,25}
        \b (?: can['’]t | cannot | can\snot | unable | not\sable | don['’]t | do\snot )
    | (?: ^\W* | (?<! :\s ) (?<! says\s ) (?<! said\s ) (?<! ['‘] ) \b )  # else it is speech
        (?: i \s (?: can['’]t | cannot | can\snot | could\snot | couldn['’]t ) \s (?: determine | answer | assist
              | help\swith | hear\sthe | listen | access | identify | describe | provide | tell\b )
          | i (?: ['’]m | \sam ) \s (?: unable | not\sable ) \s to\b
          | i \s (?: don['’]t | do\snot ) \s have \s (?: access | enough | sufficient | any\sinformation ) \b
          | (?<! that\s ) it (?: ['’]s | \sis ) \s (?: not\spossible | impossible ) \s to \s
              (?: tell | say | know | answer ) \b )
    | \b (?: not\senough | insufficient | no ) \s information \s to \b
    | ^\W* (?: not\spossible | impossible ) \s to \b
    | \b (?: not\spossible | impossible ) \s to \s (?: determine | identify ) \b
    | \b (?: can['’]t | cannot | can\snot ) \s be \s determined \b
    | \bas\san? \s (?: ai\b | artificial\sintelligence | language\smodel | text-based ) \b
    | \b (?: provided | given ) \s (?: description | transcript | notes ) \b | \bprovided\stext\b
    """,
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class Question:
    """One question to the LLM."""

    name: str  # of what it is about, in messages
    messages: Sequence[dict]  # empty where it cannot be asked in this run
    record: Mapping  # what is kept beside the reply


def verdict_on(answer: AnswerRecord) -> str:
    """`failed` (no reply), `empty`, `unreadable` (more, or less, than text), `refused` or `kept`."""
    if answer.error is not None:
        return "failed"
    said = visible_answer(answer.text).strip()
    if not said:
        return "empty"
    if not is_text(said):
        return "unreadable"
    outside = QUOTED.sub(" ", said)
    words = outside if re.search(r"\w", outside) else said  # a reply that is all in quotation marks says just that
    return "refused" if REFUSAL.search(words) else "kept"


def is_text(said: str) -> bool:
    """Whether a manifest's check lets pass what was said: Unicode without control tokens and the like."""
    return is_unicode(said) and not any(faults_of(said))


def discard_replies(files: Sequence[Path], endpoint: Endpoint, messages: Sequence[dict]) -> None:
    """Delete the replies of earlier runs, once the endpoint has answered: what was paid for is not lost for nothing.

    Raises EndpointError where it does not answer, ResumeError for a file that holds no replies.
    """
    existing = [file for file in files if has_replies(file)]
    if existing:
        endpoint.check(messages)
    for file in existing:
        remove_answers(file)


def has_replies(file: Path) -> bool:
    """Whether an earlier run left replies, finished or not."""
    return is_written(file) or bool(partial_files(file))


def ask_missing(
    endpoint: Endpoint, questions: Sequence[Question], file: Path, settings: Mapping, concurrency: int
) -> tuple[list[AnswerRecord], int]:
    """Ask what `file` does not hold yet, saving every reply as it comes; name what could not be had on stderr.

    Args:
        questions: in the file's order.
        settings: everything that the replies depend on; all values JSON. `max_tokens` is none: a reply is whole, or
            asked for again.

    Returns:
        A reply to each question, with an error where there is none, and how many failed. A later run asks for these
        again.

    Raises ResumeError if the replies on disk were made with other settings, EndpointError when there is no use in
    asking on; what came before is saved.
    """
    journal = Journal(file, "reply", settings)
    asked = [index for index, question in enumerate(questions) if question.messages and journal.is_missing(index)]
    whole = [index for index in range(len(questions)) if not journal.is_missing(index)]
    failures = []

    def ask(index: int) -> Reply:
        reply = endpoint.ask(questions[index].messages)
        if not reply.cut:
            whole.append(index)
        elif not whole:
            raise NoReply(reply.cut)  # counted with the failures in a row: if all are cut, there is no use in asking on
        return reply

    for index, reply in ask_all(ask, asked, concurrency, "reply", file.name):
        why_not = str(reply) if isinstance(reply, NoReply) else reply.cut  # half an answer is not to be learned
        if why_not:
            failures.append(f"{questions[index].name}: {why_not}")
            journal.append({index: AnswerRecord("", why_not)})
        else:
            journal.append({index: AnswerRecord(reply.text)})
    unasked = [index for index in range(len(questions)) if index not in journal.answers]
    if unasked:
        journal.append({index: AnswerRecord("", NOT_ASKED) for index in unasked})
    journal.finish([question.record for question in questions], {})
    for failure in failures[:MAX_SHOWN]:
        print(f"no answer: {failure}", file=sys.stderr)
    return [journal.answers[index] for index in range(len(questions))], len(failures)
