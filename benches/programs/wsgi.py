"""An application for gunicorn that takes BOOT_MS milliseconds to load."""

import os
import time

BEGAN = time.monotonic_ns()
time.sleep(int(os.environ.get("BOOT_MS", "0")) / 1000)


def application(environ, start_response):
    body = f"pid={os.getpid()} began={BEGAN}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
