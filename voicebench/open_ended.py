"""Open questions (alpacaeval, alpacaeval_full, commoneval, wildvoice): the judge's mean rating, 1 to 5."""

from evaluation.intervals import mean_interval
from evaluation.result_files import Result, answer_of
from voicebench.scored import Scored
from voicebench.subsets import ANSWER_FIELDS
from voicebench.verdicts import questions_of, read_verdicts

MIN_RATING = 1.0
NO_JUDGE = "no judge has rated these answers yet: voicebench/judge.py does"


def score_open(result: Result) -> Scored:
    """The official score is the mean over all ratings, as VoiceBench has it; strict is the mean over items, each
    item's rating being the mean of its own, and 1 where it was never answered.

    An answer without a rating is named and counted, and enters neither.
    """
    verdicts = read_verdicts(result, "open")
    questions = questions_of(result, "open")
    by_item = {} if verdicts is None else {q.key: verdicts.ratings_of(q) for q in questions}
    ratings = {name: sum(samples.values()) / len(samples) for name, samples in by_item.items() if samples}
    unanswered = [name for name, record in result.items.items() if answer_of(record, ANSWER_FIELDS) is None]
    unrated = [question.key for question in questions if question.key not in ratings]
    scores = {"items": len(result.items), "unanswered": unanswered, "unrated": unrated}
    if not ratings:
        return Scored(scores | {"rating": None, "not_scored": NO_JUDGE}, f"not scored: {NO_JUDGE}")
    wanted = verdicts.settings["samples"]
    partly = [name for name, samples in by_item.items() if 0 < len(samples) < wanted]
    rated = [list(samples.values()) for samples in by_item.values() if samples]
    sums, counts = list(map(sum, rated)), list(map(len, rated))
    strict = [*ratings.values(), *[MIN_RATING] * len(unanswered)]
    scores |= {
        "rating": sum(sums) / sum(counts),
        "rating_interval": mean_interval(sums, counts),
        "strict_rating": sum(strict) / len(strict),
        "strict_rating_interval": mean_interval(strict),
        "partly_rated": partly,
        "judge": verdicts.settings,
        "ratings": ratings,
    }
    lines = [
        f"official: mean rating {format_rating(scores['rating'], scores['rating_interval'])}, "
        f"{len(ratings)} of {len(result.items)} items rated by {verdicts.settings['model']}",
        f"strict:   mean rating {format_rating(scores['strict_rating'], scores['strict_rating_interval'])}, "
        f"{len(unanswered)} item(s) without an answer counted as {MIN_RATING:.0f}",
    ]
    for names, what in ((unrated, "not rated, and not counted"), (partly, f"rated fewer than {wanted} times")):
        if names:
            lines.append(f"{len(names)} answer(s) {what}: {', '.join(names[:20])}; run voicebench/judge.py again")
    return Scored(scores, "\n".join(lines), {"rating": ratings})


def format_rating(rating: float, interval: tuple[float, float]) -> str:
    return f"{rating:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"
