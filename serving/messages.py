"""The messages of a request: which turn is asked about which audio."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from serving.protocol import MAX_CHARACTERS, ChatMessage, RequestError
from src.prompts import SYSTEM_PROMPTS, VOICEBENCH_PROMPT, Conversation
from src.text_faults import faults_of

SYSTEM_ROLES = ("system", "developer")
TURN_ROLES = ("user", "assistant")


@dataclass(frozen=True)
class Question:
    """What is asked, about which audio."""

    instruction: str | Conversation
    clip: str  # as `ChatMessage.clips` gives it
    num_ignored: int  # turns that the model does not see
    num_unheard: int = 0  # clips of earlier turns that it sees


def read_messages(messages: list[ChatMessage], with_history: bool) -> Question:
    """The question of a conversation: its last turn, about the newest audio. Raises RequestError.

    Earlier turns are left out, since the model was trained on single ones, or `with_history` go into the chat template.
    The template has a system prompt of its own, with which the model was trained; the text of other ones goes before
    the user's, with history before the first of them. A clip without any text is a spoken question.
    """
    systems = [message for message in messages if message.role in SYSTEM_ROLES]
    turns = [message for message in messages if message.role not in SYSTEM_ROLES]
    if any(message.clips for message in messages if message.role != "user"):
        raise RequestError("audio belongs into a user message, not into one of another role: put it there", "messages")
    if not turns or turns[-1].role != "user" or any(turn.role not in TURN_ROLES for turn in turns):
        found = ", ".join(turn.role for turn in turns) or "none"
        raise RequestError(
            f"turns of user and assistant are expected, the user's last, after system messages if any; found {found}",
            "messages",
        )
    audio_turn = max((index for index, turn in enumerate(turns) if turn.clips), default=len(turns) - 1)
    clips = turns[audio_turn].clips
    if len(clips) != 1:
        where = "a user message" if audio_turn == len(turns) - 1 else f"turn {audio_turn + 1}"
        raise RequestError(f"one input_audio part is expected in {where}, found {len(clips)}", "messages")
    if not turns[-1].text.strip() and audio_turn < len(turns) - 1:
        raise RequestError("the last user message holds neither text nor audio: put one of them into it", "messages")
    leading = [text for message in systems if (text := message.text.strip()) not in SYSTEM_PROMPTS.values()]
    texts = [turn.text for turn in turns]
    if not texts[audio_turn].strip():
        texts[audio_turn] = VOICEBENCH_PROMPT
    if with_history and len(turns) > 1:
        first = [turn.role for turn in turns].index("user")
        texts[first] = join(*leading, texts[first])
        try:
            asked = Conversation(tuple(zip((turn.role for turn in turns), texts, strict=True)), audio_turn)
        except ValueError as error:
            raise RequestError(str(error), "messages") from None
        return Question(asked, clips[0], 0, sum(len(turn.clips) for turn in turns) - 1)
    return Question(join(*leading, texts[-1]), clips[0], len(turns) - 1)


def join(*texts: str) -> str:
    return "\n".join(text for text in texts if text)


def check_text(tokenizer: PreTrainedTokenizerBase, instruction: str | Conversation) -> None:
    """Raise RequestError where the text is too long, holds what nobody meant to write (`faults_of`), or would become
    more than text, such as the end of the turn.
    """
    texts = [instruction] if isinstance(instruction, str) else [text for _, text in instruction.turns]
    length = sum(map(len, texts))
    if length > MAX_CHARACTERS:
        raise RequestError(f"{length} characters of text; at most {MAX_CHARACTERS} are taken", "messages")
    for fault in (fault for text in texts for fault in faults_of(text)):
        raise RequestError(f"the text {fault}", "messages")
    for token in tokenizer.added_tokens_decoder.values():
        if token.special and any(token.content in text for text in texts):
            raise RequestError(
                f"the text holds {token.content}, a control token of the model: leave it out", "messages"
            )
