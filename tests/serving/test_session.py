from serving.live_answer import AnswerToken, LiveAnswer
from serving.session import Exchange, Session

ANSWER = LiveAnswer((AnswerToken("cat", 0.9, False),), 1)


def test_a_question_is_begun_once_and_kept_when_it_is_answered():
    session = Session()
    assert session.begin() is None
    session.ask("a")
    turn = session.begin()
    assert (turn.question, session.goes_on(turn), session.begin()) == ("a", True, None)
    session.finish(turn, ANSWER)
    assert session.exchanges == [Exchange("a", ANSWER, True)]
    assert not session.goes_on(turn)


def test_a_newer_question_takes_over():
    session = Session()
    session.ask("a")
    first = session.begin()
    session.ask("b")
    session.ask("c")
    assert not session.goes_on(first)
    session.finish(first, ANSWER)
    second = session.begin()
    assert (second.question, session.begin()) == ("c", None)
    session.finish(second, ANSWER)
    assert [(e.question, e.is_whole) for e in session.exchanges] == [("a", False), ("c", True)]


def test_what_is_stopped_ends_and_what_waits_is_forgotten():
    session = Session()
    session.ask("a")
    session.stop()
    assert session.begin() is None
    session.ask("b")
    turn = session.begin()
    session.stop()
    assert not session.goes_on(turn)
    session.ask(session.last_question)
    assert session.begin().question == "b"


def test_another_clip_has_no_questions_yet_and_old_answers_do_not_come_to_it():
    session = Session()
    session.ask("a")
    turn = session.begin()
    assert session.is_about_the_clip(turn)
    session.restart()
    assert not session.goes_on(turn) and not session.is_about_the_clip(turn)
    session.finish(turn, ANSWER)
    assert (session.exchanges, session.last_question) == ([], "")
