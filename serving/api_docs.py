"""What the server says of itself: the OpenAPI document, and pages that show it and load nothing from elsewhere."""

import html
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from serving.protocol import ChatRequest, TranscriptionRequest

VERSION = "1"  # of the routes
DESCRIPTION = "Questions about audio, answered by masked diffusion. The routes under /v1 are OpenAI's."
MAX_SHOWN = 2**31  # larger bounds are those of the number's type
REQUESTS = ("ChatRequest", "TranscriptionRequest")
MEDIA_TYPES = {"chat": "application/json", "transcription": "multipart/form-data"}
ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {name: {"type": ["string", "null"]} for name in ("message", "type", "param", "code")},
        }
    },
}
STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { max-width: 50rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
h2 { margin: 2rem 0 .25rem; font-size: 1.1rem }
td:first-child { width: 45% }
code, pre { font-size: .9rem; white-space: pre-wrap }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
td { padding: .25rem .75rem .25rem 0; border-top: 1px solid #8888; vertical-align: top }
"""


def openapi(app: FastAPI, completions: str, transcriptions: str) -> dict[str, Any]:
    """The OpenAPI document of the routes, with the bodies of the two that read their own."""
    document = get_openapi(title=app.title, version=VERSION, description=DESCRIPTION, routes=app.routes)
    models = [(ChatRequest, "validation"), (TranscriptionRequest, "validation")]
    _, definitions = models_json_schema(models, ref_template="#/components/schemas/{model}")
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= definitions["$defs"] | {"Error": ERROR}
    form = schemas["TranscriptionRequest"]
    form["properties"] = {"file": {"type": "string", "format": "binary", "title": "File"}} | form["properties"]
    form["required"] = ["file", *form["required"]]
    for path, kind, name in (
        (completions, "chat", REQUESTS[0]),
        (transcriptions, "transcription", REQUESTS[1]),
    ):
        content = {MEDIA_TYPES[kind]: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
        document["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
            operation["responses"] = {
                **{status: response for status, response in operation["responses"].items() if status == "200"},
                "4XX": {"description": "The request cannot be answered; the message says why", "content": content},
            }
            if path.startswith("/v1/"):
                operation["security"] = [{"key": []}, {}]
    return document


def docs_page(document: dict[str, Any]) -> str:
    """An OpenAPI document as a page to read."""
    sections = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            sections.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>")
            sections.append(f"<p>{html.escape(operation.get('description', ''))}</p>")
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
                sections.append(f"<p>Body: <code>{kind}</code></p>{table(schema)}")
    for name, schema in document["components"]["schemas"].items():
        if name not in REQUESTS and "properties" in schema:
            sections.append(f"<h2>{html.escape(name)}</h2>{table(schema)}")
    return page(
        "DIFFA: the server's routes",
        f"<h1>DIFFA: the server's routes</h1><p>{html.escape(document['info']['description'])} "
        '<a href="/openapi.json">openapi.json</a> is the same for programs. A request that asks for what is not here '
        "is refused by name.</p>" + "".join(sections),
    )


def table(schema: dict[str, Any]) -> str:
    """The fields of an object: names, types, and which must be there."""
    rows = []
    for name, field in schema["properties"].items():
        needed = ", required" if name in schema.get("required", ()) else ""
        rows.append(f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(type_of(field))}{needed}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def type_of(field: dict[str, Any]) -> str:
    """A JSON schema's type in a few words."""
    if "anyOf" in field:
        return " or ".join(found for option in field["anyOf"] if (found := type_of(option)) != "null")
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2]
    if "const" in field:
        return repr(field["const"])
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    kind = field.get("type", "any")
    if kind == "array":
        return f"list of {type_of(field['items'])}"
    if isinstance(kind, list):
        return " or ".join(name for name in kind if name != "null")
    bounds = [
        f"{word} {field[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"))
        if abs(field.get(key, MAX_SHOWN)) < MAX_SHOWN
    ]
    return " ".join([field.get("format") or kind, *bounds])


def start_page(name: str, needs_key: bool) -> str:
    """What a browser sees that opens the server's address."""
    key = " -H 'Authorization: Bearer KEY'" if needs_key else ""
    command = f"curl -s http://HOST:PORT/v1/audio/transcriptions{key} -F model={name} -F file=@clip.wav"
    return page(
        "DIFFA",
        f"<h1>DIFFA</h1><p>This server answers questions about audio for programs; the model's name is "
        f"<code>{html.escape(name)}</code>.{' It asks for a key.' if needs_key else ''}</p>"
        f"<pre>{html.escape(command)}</pre>"
        '<ul><li><a href="/docs">Routes and parameters</a></li><li><a href="/v1/models">What the model can do</a></li>'
        '<li><a href="/health">Health</a></li><li><a href="/metrics">Metrics</a></li></ul>',
    )


def page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>{body}</body></html>\n'
    )
