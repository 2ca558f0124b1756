"""An ordinary WSGI application, for gunicorn."""

import os

VERSION = "1"


def application(environ, start_response):
    body = f"pid={os.getpid()} version={VERSION}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
