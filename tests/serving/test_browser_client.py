"""A web page from elsewhere asks the server from Chromium, about what it records there."""

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed (requirements-dev.txt)")
from tests.chromium import CHROMIUM, chromium

RECORD_AND_ASK = """async address => {
    const stream = await navigator.mediaDevices.getUserMedia({audio: true})
    const recorder = new MediaRecorder(stream), parts = []
    recorder.ondataavailable = event => parts.push(event.data)
    const stopped = new Promise(resolve => { recorder.onstop = resolve })
    recorder.start()
    await new Promise(resolve => setTimeout(resolve, 1200))
    recorder.stop()
    await stopped
    const recording = new Blob(parts, {type: recorder.mimeType})
    const reader = new FileReader()
    const read = new Promise(resolve => { reader.onload = resolve })
    reader.readAsDataURL(recording)
    await read
    const key = {"Authorization": "Bearer none"}
    const audio = {type: "input_audio", input_audio: {data: reader.result, format: "webm"}}
    const content = [audio, {type: "text", text: "?"}]
    const answer = await fetch(address + "/v1/chat/completions", {
        method: "POST", headers: {...key, "Content-Type": "application/json"},
        body: JSON.stringify({model: "diffa", messages: [{role: "user", content}]}),
    })
    const form = new FormData()
    form.append("model", "diffa")
    form.append("file", recording, "recording.webm")
    const transcription = await fetch(address + "/v1/audio/transcriptions", {method: "POST", headers: key, body: form})
    return {
        type: recording.type, request: answer.headers.get("x-request-id"),
        answer: await answer.json(), transcription: await transcription.json(),
    }
}"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (apt-get install chromium)")
@pytest.mark.parametrize("origins", [["*"]])
def test_a_page_from_elsewhere_records_and_asks(address):
    with chromium() as browser:
        context = browser.new_context(permissions=["microphone"])
        page = context.new_page()
        page.goto(address.replace("127.0.0.1", "localhost"))  # another origin, and one that may record
        found = page.evaluate(RECORD_AND_ASK, address)
    assert "webm" in found["type"]
    assert found["answer"]["choices"][0]["finish_reason"] == "stop", found
    assert found["transcription"]["usage"]["seconds"] >= 1, found
    assert found["request"].startswith("req_")
