"""The web page in a real browser, with the miniature."""

import base64
import json
import re
import threading
from pathlib import Path

import pytest

import app
import ask
from serving.live_answer import live_answers
from src.loading import load_model

pytest.importorskip("playwright", reason="Playwright is not installed (requirements-dev.txt)")
from tests.audio_files import sweep_file
from tests.chromium import CHROMIUM, chromium, free_port

if CHROMIUM is None:
    pytest.skip("no chromium here (apt-get install chromium)", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore:'HTTP_422")  # Gradio's, about Starlette's names
EXAMPLES = app.ROOT / "examples"
MAX_QUEUE = 1
# Collects every text that the answer has had, for looking from outside would miss some.
WATCH = """() => {
    window.seen = []
    const look = () => {
        const answer = document.querySelector("p.answer")
        if (answer && answer.textContent !== window.seen.at(-1)) window.seen.push(answer.textContent)
    }
    new MutationObserver(look).observe(document.body, {childList: true, characterData: true, subtree: true})
}"""

WATCH_BUSY = """() => {
    const look = () => { window.busy ||= document.body.textContent.includes("currently busy") }
    new MutationObserver(look).observe(document.body, {childList: true, characterData: true, subtree: true})
}"""


@pytest.fixture(scope="module")
def miniature():
    return load_model(app.make_parser().parse_args(["--device", "cpu", "--dtype", "float32"]))


@pytest.fixture(scope="module")
def server(miniature, tmp_path_factory):
    """The page's address and the folder of its uploads."""
    limits = ["--max_queue", str(MAX_QUEUE), "--max_megabytes", "1"]
    args = app.make_parser().parse_args(["--port", str(free_port()), *limits])
    uploads = tmp_path_factory.mktemp("uploads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")  # which open_page sets; put back afterwards
        blocks = app.open_page(miniature, args, uploads)
        yield f"http://127.0.0.1:{args.port}", uploads
        blocks.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def new_user(browser, server):
    """Opens the page for one more user. At the end no page may have asked another host for anything."""
    contexts, requests = [], []

    def open_(width: int = 1100):
        context = browser.new_context(viewport={"width": width, "height": 844})
        contexts.append(context)
        context.on("request", lambda request: requests.append(request.url))
        page = context.new_page()
        page.goto(server[0])
        page.get_by_label("Question").wait_for()
        return page

    yield open_
    for context in contexts:
        context.close()
    assert requests and [url for url in requests if not url.startswith((server[0], f"blob:{server[0]}", "data:"))] == []


def upload(page, file: Path | dict) -> None:
    page.locator("input[type=file]").set_input_files(file)


def wait_until_heard(page, name: str) -> None:
    page.locator("#heard", has_text=f"What was heard of {name}").wait_for()


def take_example(page, name: str) -> None:
    page.get_by_role("button", name=name).click()
    wait_until_heard(page, name)


def press_ask(page) -> None:
    page.get_by_role("button", name="Ask", exact=True).click()


def finished_answer(page) -> str:
    page.locator(".statistics").wait_for()
    return page.locator("p.answer").text_content()


def overflow(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def test_an_uploaded_clip_is_answered_step_by_step_as_ask_does(new_user, server, miniature, monkeypatch, capsys):
    question = "What can you hear from the audio?"
    monkeypatch.setattr(ask, "load_model", lambda args: miniature)
    flags = ["--preset", "exact", "--steps", "16", "--max_new_tokens", "16"]
    assert ask.main([str(EXAMPLES / "clip.wav"), question, "--json", *flags]) == 0
    expected = json.loads(capsys.readouterr().out)

    page = new_user()
    page.evaluate(WATCH)
    upload(page, EXAMPLES / "clip.wav")
    wait_until_heard(page, "clip.wav")
    assert page.locator("#heard img").evaluate("image => image.naturalHeight") == 80  # mel bands
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("exact").check()
    page.get_by_label("Steps", exact=True).fill("16")
    page.get_by_label("Length (max_new_tokens)").fill("16")
    page.get_by_label("Question").fill(question)
    press_ask(page)
    assert finished_answer(page) == expected["answer"] == "the brown cat takes four cups"
    seen = page.evaluate("window.seen")
    masks = [text.count("░") for text in seen]
    assert masks[0] == 16 and masks[-1] == 0 and masks == sorted(masks, reverse=True) and len(set(masks)) > 8
    tokens = page.locator("p.answer .token")
    assert tokens.all_text_contents() == [token["text"].strip() for token in expected["tokens"]]
    percents = tokens.evaluate_all("all => all.map(token => token.dataset.percent)")
    assert percents == [f"{int(100 * token['confidence'])}%" for token in expected["tokens"]]
    took = rf"[\d.]+ s, 16 forward passes, {len(percents)} tokens, [\d.]+ tokens/s"
    assert re.fullmatch(took, page.locator(".statistics").text_content())
    assert [file for file in server[1].rglob("*") if file.is_file()] == []  # the upload is deleted

    page.get_by_label("Question").fill("How many things are there?")  # and can still be asked about
    page.get_by_label("Question").press("Enter")
    page.locator("p.answer", has_text=re.compile("^four$")).wait_for()


def test_a_text_file_named_wav_gives_a_message(new_user):
    page = new_user()
    upload(page, {"name": "notes.wav", "mimeType": "audio/wav", "buffer": b"milk, bread, four cups\n"})
    alert = page.locator("#heard [role=alert]")
    alert.wait_for()
    assert re.match(r"Error: notes\.wav: not readable as audio \(its format is not known", alert.text_content())
    page.get_by_label("Question").fill("Why?")
    press_ask(page)
    page.locator("#answer [role=alert]", has_text="no sound yet").wait_for()


def test_too_large_a_file_is_refused(new_user, server):
    page = new_user()
    upload(page, {"name": "big.wav", "mimeType": "audio/wav", "buffer": bytes(2**20 + 1)})
    page.get_by_text("maximum allowed size").first.wait_for()
    content = {"name": "big.wav", "mimeType": "audio/wav", "buffer": bytes(2**20 + 1)}
    assert page.request.post(f"{server[0]}/gradio_api/upload", multipart={"files": content}).status == 413


def test_long_sound_is_heard_in_part_with_a_warning(new_user):
    page = new_user()
    take_example(page, "story.ogg")
    warning = page.locator("#heard .warning").text_content()
    assert warning.startswith("Warning: story.ogg is 10.8 s long, and of it only 0.0 to 4.0 s is heard")
    press_ask(page)
    assert finished_answer(page) == "brown"


def test_contradicting_settings_and_unforeseen_errors_become_messages(new_user, monkeypatch):
    page = new_user()
    take_example(page, "clip.wav")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Length (max_new_tokens)").fill("20")
    press_ask(page)
    page.locator("#answer [role=alert]", has_text="block_length 16 does not divide max_new_tokens 20").wait_for()

    def fail(*_):
        raise RuntimeError("a secret")

    monkeypatch.setattr(app, "live_answers", fail)
    page.get_by_label("Length (max_new_tokens)").fill("64")
    press_ask(page)
    page.locator("#answer [role=alert]", has_text=app.INTERNAL_ERROR).wait_for()
    assert "Traceback" not in page.content() and "a secret" not in page.content()


def test_two_users_at_once_get_their_own_answers(new_user):
    first, second = new_user(), new_user()
    take_example(first, "clip.wav")
    take_example(second, "sheep.flac")
    press_ask(first)
    press_ask(second)
    assert [finished_answer(first), finished_answer(second)] == ["brown", "sheep"]


@pytest.fixture
def go_on(monkeypatch):
    """Answers stay masks until it is set."""
    event = threading.Event()

    def held(*args):
        event.wait(120)
        yield from live_answers(*args)

    monkeypatch.setattr(app, "live_answers", held)
    yield event
    event.set()


def is_told_that_all_is_busy(page) -> bool:
    """Ask, and again where nothing comes of it: once, on a busy machine, a press of the button had no effect."""
    page.evaluate(WATCH_BUSY)  # the message goes away by itself
    for _ in range(4):
        press_ask(page)
        for _ in range(50):
            page.wait_for_timeout(100)
            if page.evaluate("Boolean(window.busy)"):
                return True
    return False


@pytest.mark.slow
def test_users_wait_their_turn_and_a_full_queue_says_so(new_user, go_on):
    first, second, third = users = [new_user() for _ in range(MAX_QUEUE + 2)]
    for page in users:
        take_example(page, "siren.flac")
    press_ask(first)
    first.locator("p.answer").wait_for()
    press_ask(second)
    second.locator("#answer", has_text="queue: 1/1").wait_for()
    assert is_told_that_all_is_busy(third)
    go_on.set()
    assert [finished_answer(first), finished_answer(second)] == ["siren", "siren"]
    press_ask(third)
    assert finished_answer(third) == "siren"


@pytest.fixture
def slow_steps(monkeypatch):
    monkeypatch.setattr(app, "STEP_SECONDS", 1.0)


def ask_slowly(page, question: str) -> None:
    """Ask what takes 16 steps, and go on when it is being answered."""
    page.get_by_label("Question").fill(question)
    press_ask(page)
    page.locator("#answer .asked", has_text=question).wait_for()
    page.locator("p.answer[aria-busy=true]").wait_for()


def earlier(page) -> list[list[str]]:
    """Questions and answers that stand below the answer."""
    return [entry.split("\n") for entry in page.locator("#history .exchange").evaluate_all(
        "all => all.map(one => [...one.querySelectorAll('p')].map(p => p.textContent).join('\\n'))"
    )]  # fmt: skip


@pytest.fixture
def exact_page(new_user):
    """A page with a clip, on which an answer takes 16 steps."""
    page = new_user(width=360)
    take_example(page, "clip.wav")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("exact").check()
    page.get_by_label("Steps", exact=True).fill("16")
    page.get_by_label("Length (max_new_tokens)").fill("16")
    return page


def test_a_question_that_is_asked_meanwhile_takes_over(exact_page, slow_steps, monkeypatch):
    ask_slowly(exact_page, "What can you hear from the audio?")
    ask_slowly(exact_page, "Which colour is named?")
    monkeypatch.setattr(app, "STEP_SECONDS", 0)
    assert finished_answer(exact_page) == "brown"
    assert exact_page.locator("#answer .asked").text_content() == "Which colour is named?"
    [[question, answer]] = earlier(exact_page)
    assert question == "What can you hear from the audio?" and answer.endswith("(stopped)")
    assert overflow(exact_page) == 0


def test_an_answer_is_stopped_and_asked_for_again(exact_page, slow_steps, monkeypatch):
    ask_slowly(exact_page, "How many things are there?")
    exact_page.get_by_role("button", name="Stop").click()
    exact_page.locator(".statistics", has_text="Stopped after").wait_for()
    assert "░" in exact_page.locator("p.answer").text_content()
    monkeypatch.setattr(app, "STEP_SECONDS", 0)
    exact_page.get_by_role("button", name="Again").click()
    exact_page.locator("p.answer", has_text=re.compile("^four$")).wait_for()
    assert [question for question, _ in earlier(exact_page)] == ["How many things are there?"]


def test_earlier_questions_about_a_clip_are_copied_and_go_with_it(exact_page, monkeypatch):
    monkeypatch.setattr(app, "STEP_SECONDS", 0)
    exact_page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for question, answer in (("Which colour is named?", "brown"), ("How many things are there?", "four")):
        exact_page.get_by_label("Question").fill(question)
        press_ask(exact_page)
        exact_page.locator("p.answer", has_text=re.compile(f"^{answer}$")).wait_for()
    exact_page.locator(".statistics").wait_for()
    for where, text in (("#answer", "four"), ("#history", "brown")):
        exact_page.locator(f"{where} button.copy").click()
        exact_page.locator(f"{where} button.copy", has_text="Copied").wait_for()
        assert exact_page.evaluate("navigator.clipboard.readText()") == text
    take_example(exact_page, "sheep.flac")
    exact_page.locator("#history").wait_for(state="hidden")
    exact_page.get_by_role("button", name="Again").click()
    exact_page.locator("#answer [role=alert]", has_text="a question of 1 to 1000 characters is expected").wait_for()


@pytest.mark.parametrize(("kind", "mime"), [("m4a", "audio/mp4"), ("webm", "video/webm")])
def test_files_of_phones_and_browsers_are_heard(new_user, kind, mime):
    page = new_user()
    upload(page, {"name": f"note.{kind}", "mimeType": mime, "buffer": sweep_file(kind, 1.0)})
    wait_until_heard(page, f"note.{kind}")


def test_a_dropped_video_file_is_heard(new_user):
    page = new_user()
    content = base64.b64encode(sweep_file("webm", 1.0)).decode()
    page.evaluate(
        """content => {
            const transfer = new DataTransfer()
            const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0))
            transfer.items.add(new File([bytes], "dropped.webm", {type: "video/webm"}))
            const place = document.querySelector("#sound button[aria-label*=upload]")
            place.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}))
        }""",
        content,
    )
    wait_until_heard(page, "dropped.webm")


def test_a_recording_is_heard(new_user):
    page = new_user()
    page.context.grant_permissions(["microphone"])
    page.locator("#sound").get_by_label("Record audio").click()
    page.locator("#sound").get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1500)
    page.locator("#sound").get_by_role("button", name="Stop").first.click()
    page.locator("#heard", has_text="What was heard of").wait_for()


def test_on_a_phone_nothing_is_wider_than_the_screen(new_user, go_on):
    page = new_user(width=360)
    assert overflow(page) == 0
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="What the miniature can be asked").click()
    take_example(page, "story.ogg")
    press_ask(page)
    page.locator("p.answer", has_text="░").wait_for()
    assert overflow(page) == 0
    go_on.set()
    finished_answer(page)
    assert overflow(page) == 0


def tab_to(page, selector: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"the tab key does not lead to {selector}")


def test_by_keyboard_alone(new_user):
    page = new_user()
    with page.expect_file_chooser() as chooser:  # expected early: Playwright takes a moment to catch it
        tab_to(page, "button[aria-label*='upload']")
        page.keyboard.press("Enter")
    chooser.value.set_files(EXAMPLES / "sheep.flac")
    wait_until_heard(page, "sheep.flac")
    tab_to(page, "textarea")
    page.keyboard.type("Which colour is named?")
    page.keyboard.press("Enter")
    assert finished_answer(page) == "blue"
