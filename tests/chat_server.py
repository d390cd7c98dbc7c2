"""A chat-completions endpoint on this machine that misbehaves on demand, for the tests of what asks one."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SLOW_SECONDS = 3.0  # of the script's "slow"
PARTS = [
    {"type": "thinking", "thinking": "Hm."},
    {"type": "text", "text": "A man "},
    {"type": "text", "text": "sings."},
]
ODD = {
    "html": b"<html>busy</html>",
    "odd": b'{"choices": []}',
    "number": b'{"choices": [{"message": {"content": 4}}]}',
    "parts": json.dumps({"choices": [{"message": {"content": PARTS}}]}).encode(),
    "too long": b'{"choices": [{"message": {"content": "A man si"}, "finish_reason": "length"}]}',
    "filtered": b'{"choices": [{"message": {"content": "A man"}, "finish_reason": "content_filter"}]}',
    "unsafe": b'{"choices": [{"message": {"content": "A man"}, "finish_reason": "content_filter: SAFETY"}]}',
    "abort": b'{"choices": [{"message": {"content": "4, a man"}, "finish_reason": "abort"}]}',
    "error": b'{"choices": [{"message": {"content": ""}, "finish_reason": "error"}]}',
    "short of room": b'{"choices": [{"message": {"content": null}, "finish_reason": "insufficient_system_resource"}]}',
}


class ChatServer(ThreadingHTTPServer):
    """A chat-completions endpoint on this machine. `script` says what it does, request by request, before it answers
    everything with `reply`: a status, (status, headers), "slow", "cut", "half", one of ODD, or a text to reply with."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.reply, self.delay = [], "4", 0.0
        self.together = 0  # replies wait until so many requests are under way
        self.requests, self.times, self.keys = [], [], []
        self.lock, self.under_way, self.most_under_way = threading.Condition(), 0, 0
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        pass  # clients that gave up waiting


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append(body)
            server.times.append(time.monotonic())
            server.keys.append(self.headers.get("Authorization"))
            what = server.script.pop(0) if server.script else server.reply
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
            server.lock.notify_all()
            server.lock.wait_for(lambda: server.most_under_way >= server.together, timeout=30)
        time.sleep(server.delay)
        with server.lock:
            server.under_way -= 1  # before the reply: the client may send its next request while this thread still runs
        self.act(what(body) if callable(what) else what)

    def act(self, what):
        status, headers = what if isinstance(what, tuple) else (what, {}) if isinstance(what, int) else (200, {})
        content = json.dumps({"choices": [{"message": {"content": what}}]}).encode()
        if what == "slow":
            time.sleep(SLOW_SECONDS)
        if what == "cut":
            self.close_connection = True
            return
        if isinstance(what, str):
            content = ODD.get(what, content)
        if status != 200:
            content = b'{"error": "no"}'
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) + 50 * (what == "half")))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """A server that runs; its port is free again behind the block."""
    server = ChatServer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def kill_when_lines(process: subprocess.Popen, path: Path, count: int) -> None:
    """Kill, as by kill -9, what asks the server, once the file of its replies has so many lines."""
    while process.poll() is None and not (path.exists() and path.read_text().count("\n") >= count):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
