"""A real browser's WebSocket, from a page of this server's and from a page of somebody else's."""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import subprocess
import threading

import httpx
import pytest
from serving.asgi import make_root
from serving.refusals import ROW
from serving.tiny import serving, until

DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (DRIVER and BROWSER),
        reason="no Chromium here: apt-get install chromium chromium-driver",
    ),
]

ASK = """
const [url, messages, done] = arguments;
const socket = new WebSocket(url);
const answers = [];
socket.onopen = () => messages.forEach(message => socket.send(message));
socket.onmessage = event => {
  answers.push(JSON.parse(event.data));
  if (answers.length == messages.length) socket.close(1000);
};
socket.onclose = event => done({answers, code: event.code, clean: event.wasClean});
"""


class Browser:
    """One page, driven over the WebDriver protocol: https://www.w3.org/TR/webdriver2/."""

    def __init__(self, port, profile):
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        until(self.is_ready, 30)
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options = {"binary": BROWSER, "args": [*flags, f"--user-data-dir={profile}"]}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        session = self.post("/session", capabilities=wanted)["sessionId"]
        self.path = f"/session/{session}"
        self.post(f"{self.path}/timeouts", script=30_000)

    def is_ready(self):
        try:
            return self.client.get("/status").json()["value"]["ready"]
        except httpx.TransportError:
            return False

    def post(self, path, **body):
        answer = self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]

    def ask(self, page, url, messages):
        """What a script of ``page`` hears at ``url``."""
        self.post(f"{self.path}/url", url=page)
        return self.post(f"{self.path}/execute/async", script=ASK, args=[url, messages])


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("browser")
    with (folder / "log").open("wb") as log:
        driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=log, stderr=log)
        try:
            opened = Browser(port, folder / "profile")
            yield opened
            opened.client.delete(opened.path)
            opened.client.close()
        finally:
            driver.terminate()
            driver.wait(20)


@pytest.fixture(scope="module")
def elsewhere():
    """The address of a page of somebody else's."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!DOCTYPE html><title>elsewhere</title>")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("server"))


def test_a_page_of_this_server_asks_and_is_answered(browser, root):
    messages = [{"id": n, "instances": [{**ROW, "distance": 100 + n}]} for n in range(40)]
    messages[20]["instances"] = []
    with serving(root / "log", root) as server:
        url = f"ws://{server.address}/ws/late-flights"
        heard = browser.ask(
            f"http://{server.address}/", url, [json.dumps(each) for each in messages]
        )
    assert (heard["code"], heard["clean"]) == (1000, True)
    found = {each["id"]: each for each in heard["answers"]}
    assert found.keys() == set(range(40))
    assert found.pop(20)["status"] == 400
    assert all(len(each["predictions"]) == 1 for each in found.values())


@pytest.mark.parametrize("allowed", [False, True])
def test_a_page_of_somebody_else_needs_leave(browser, root, elsewhere, allowed):
    settings = "[gate.profiles.quick]\nrate = 50\n[server]\n"
    settings += f'allowed_origins = ["{elsewhere}"]\n' if allowed else ""
    (root / "headgate.toml").write_text(settings)
    with serving(root / "log", root) as server:
        url = f"ws://{server.address}/ws/late-flights"
        message = json.dumps({"id": 1, "instances": [ROW]})
        heard = browser.ask(f"{elsewhere}/", url, [message])
    assert len(heard["answers"]) == allowed
    assert heard["code"] == (1000 if allowed else 1006)
