import pytest
from fastapi import FastAPI

from serving import api_docs


@pytest.fixture
def document():
    app = FastAPI(title="DIFFA", docs_url=None, redoc_url=None)

    async def answer() -> None:
        """Answer a question."""

    app.add_api_route("/chat", answer, methods=["POST"])
    app.add_api_route("/v1/audio", answer, methods=["POST"])
    return api_docs.openapi(app, "/chat", "/v1/audio")


def test_the_document_has_the_bodies_and_every_reference_leads_somewhere(document):
    chat, form = (document["paths"][path]["post"]["requestBody"]["content"] for path in ("/chat", "/v1/audio"))
    assert list(chat) == ["application/json"] and list(form) == ["multipart/form-data"]
    schemas = document["components"]["schemas"]
    assert {"messages", "canvas", "stream", "max_tokens"} <= set(schemas["ChatRequest"]["properties"])
    assert schemas["TranscriptionRequest"]["required"] == ["file", "model"]

    def references(value):
        if isinstance(value, dict):
            yield from [value["$ref"]] if "$ref" in value else []
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from references(item)

    found = set(references(document))
    assert len(found) > 3
    assert {reference.rpartition("/")[2] for reference in found} <= set(schemas)


def test_the_page_names_routes_fields_and_types_and_loads_nothing(document):
    page = api_docs.docs_page(document)
    for part in (
        "<code>POST /v1/audio</code>", "Answer a question.", "<code>response_format</code>", "json, text, srt",
        "list of ChatMessage", "number from 0 to 2", "binary, required", "<h2>ContentPart</h2>",
    ):  # fmt: skip
        assert part in page
    for text in (page, api_docs.start_page("<b>", False)):
        assert "http://HOST" in text or "http" not in text.replace('href="/', "")
        assert "<script" not in text and "<link" not in text
    assert "&lt;b&gt;" in api_docs.start_page("<b>", False)
    assert "Bearer KEY" in api_docs.start_page("diffa", True) and "Bearer" not in api_docs.start_page("diffa", False)
