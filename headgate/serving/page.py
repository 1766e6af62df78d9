"""``GET /``: the endpoints with their schemas, for people.

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
</head>
<body>
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
