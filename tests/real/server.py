"""An ordinary asyncio server that takes its socket as systemd passes it, and says when it is ready."""

import asyncio
import os
import signal
import socket

VERSION = "1"


def listen_fds():
    """The sockets that were passed to this process: sd_listen_fds(3)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    return [socket.socket(fileno=fd) for fd in range(3, 3 + int(os.environ["LISTEN_FDS"]))]


def notify(text):
    """Tells the supervisor: sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(text.encode(), path.replace("@", "\0", 1) if path[0] == "@" else path)


async def serve(reader, writer):
    try:
        await reader.readuntil(b"\r\n\r\n")
        body = f"pid={os.getpid()} version={VERSION}\n".encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def stop_accepting(servers):
    """Closes the servers without losing what they have accepted.

    What was accepted in this turn of the loop begins in the next one, and a server that is closed in between drops it
    without a word (`Server._attach` in asyncio/base_events.py).
    """
    for server in servers:
        for sock in server.sockets:
            asyncio.get_running_loop().remove_reader(sock.fileno())
    await asyncio.sleep(0)
    for server in servers:
        server.close()


async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    # asyncio calls listen() again, with 100 unless it is told otherwise.
    servers = [await asyncio.start_server(serve, sock=sock, backlog=4096) for sock in listen_fds()]
    notify("READY=1")
    await stop.wait()
    notify("STOPPING=1")
    await stop_accepting(servers)
    # What is accepted is finished before we leave.
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


asyncio.run(main())
