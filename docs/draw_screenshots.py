"""Draw the web page's pictures of the README: the miniature and an example clip, on a desktop and on a phone.

python docs/draw_screenshots.py docs
"""

import argparse
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page

sys.path.insert(0, str(Path(__file__).parent.parent))
import app
from src.loading import load_model
from tests.chromium import chromium, free_port

FLAGS = ("--preset", "exact", "--steps", "16", "--block_length", "16", "--max_new_tokens", "16", "--device", "cpu")
QUESTION = "What can you hear from the audio?"
DESKTOP, PHONE = {"width": 1100, "height": 800}, {"width": 390, "height": 844}
MASKS_LEFT = 3  # on the phone, where the answer is still being written


def ask(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("button", name="clip.wav").click()
    page.locator("#heard img").wait_for()
    page.get_by_label("Question").fill(QUESTION)
    page.get_by_role("button", name="Ask", exact=True).click()


def main(folder: str) -> None:
    args = app.make_parser().parse_args([*FLAGS, "--port", str(free_port())])
    url = f"http://{args.host}:{args.port}"
    with tempfile.TemporaryDirectory() as uploads, chromium() as browser:
        blocks = app.open_page(load_model(args), args, Path(uploads))
        page = browser.new_page(viewport=DESKTOP)
        ask(page, url)
        page.locator(".statistics").wait_for()
        page.mouse.move(0, 0)
        page.screenshot(path=f"{folder}/app_desktop.png", full_page=True)

        app.STEP_SECONDS = 1.0  # time to take a picture
        page = browser.new_page(viewport=PHONE)
        ask(page, url)
        page.wait_for_function(f"document.querySelectorAll('p.answer .mask').length == {MASKS_LEFT}")
        page.get_by_text("Question", exact=True).evaluate("label => { label.scrollIntoView(); scrollBy(0, -20) }")
        page.screenshot(path=f"{folder}/app_phone.png")
        blocks.close(verbose=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the pictures go")
    main(parser.parse_args().folder)
