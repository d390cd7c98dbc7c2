"""A session of the web page: questions about one clip, of which a newer one takes over from those before."""

from dataclasses import dataclass, field

from serving.live_answer import LiveAnswer


@dataclass(frozen=True)
class Exchange:
    """A question and what was answered, whole or until it was stopped."""

    question: str
    answer: LiveAnswer
    is_whole: bool


@dataclass(eq=False)
class Turn:
    """A question whose answer is being made; `exchanges` is the list of the clip it is about."""

    question: str
    exchanges: list[Exchange]


@dataclass(eq=False)
class Session:
    """What one page is asked. Its methods are called by events in several threads, each in no time."""

    exchanges: list[Exchange] = field(default_factory=list)  # about the clip, the oldest first
    last_question: str = ""  # about the clip
    waiting: Turn | None = None  # asked, and not yet begun
    running: Turn | None = None

    def ask(self, question: str) -> None:
        """A question that takes over: what is being answered ends where it is, what waits is forgotten."""
        self.last_question = question
        self.waiting, self.running = Turn(question, self.exchanges), None

    def stop(self) -> None:
        """Nothing is to be answered any more."""
        self.waiting = self.running = None

    def restart(self) -> None:
        """Another clip: nothing was asked about it."""
        self.stop()
        self.exchanges, self.last_question = [], ""

    def begin(self) -> Turn | None:
        """The question to answer now; None where it was stopped, or a later event has begun with it."""
        turn, self.waiting = self.waiting, None
        if turn:
            self.running = turn
        return turn

    def goes_on(self, turn: Turn) -> bool:
        """Whether an answer is still wanted."""
        return self.running is turn

    def is_about_the_clip(self, turn: Turn) -> bool:
        """Whether the clip is still the one that was asked about."""
        return turn.exchanges is self.exchanges

    def finish(self, turn: Turn, answer: LiveAnswer) -> None:
        """Keep what was answered, up to here."""
        turn.exchanges.append(Exchange(turn.question, answer, is_whole=self.goes_on(turn)))
        if self.goes_on(turn):
            self.running = None
