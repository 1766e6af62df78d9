"""``GET /``: every way to ask, and the endpoints with their schemas, for people.

BentoML's own page loads Google Tag Manager into the browser of whoever opens it. This one is made
of the same Swagger UI, which BentoML serves under ``/static_content``, and of nothing from elsewhere.
"""

from __future__ import annotations

from headgate.serving.http import Receive, Scope, Send

__all__ = ["page"]

_PAGE = b"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Headgate</title>
<link rel="stylesheet" href="./static_content/swagger-ui.css">
<style>
body { margin: 0 }
ul { max-width: 1460px; margin: 1.5em auto 0; padding: 0 2.5em; font: 14px/1.6 sans-serif; color: #3b4151 }
</style>
</head>
<body>
<ul>
<li><b>V1</b>, of TensorFlow Serving and KServe: <code>POST /v1/models/NAME:predict</code></li>
<li><b>Open Inference Protocol v2</b>, of Triton, KServe, MLServer: <code>POST /v2/models/NAME/infer</code>;
the same over <b>gRPC</b>, on a port of its own</li>
<li><b>MLflow</b> and <b>SageMaker</b>: <code>POST /invocations</code>; <b>TorchServe</b>:
<code>POST /predictions/NAME</code>; <b>BentoML</b>: <code>POST /NAME</code></li>
<li><b>WebSocket</b>, many rows in flight: <code>/ws/NAME</code></li>
<li>Health: <code>/livez</code>, <code>/readyz</code>, <code>/ping</code>; metrics: <code>/metrics</code>;
all of this for programs: <a href="./docs.json"><code>/docs.json</code></a></li>
</ul>
<div id="swagger-ui"></div>
<script src="./static_content/swagger-ui-bundle.js"></script>
<script src="./static_content/swagger-ui-standalone-preset.js"></script>
<script src="./static_content/swagger-initializer.js"></script>
</body>
</html>
"""


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the page."""
    del scope, receive
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(_PAGE)),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _PAGE})
