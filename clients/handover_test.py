"""What only shows inside a Python program: python3 clients/handover_test.py"""

import asyncio
import socket
import unittest

import handover


async def answers(close):
    """What five clients get whose connections were accepted in the very turn of the loop in which the server is closed."""
    done = []

    async def serve(reader, writer):
        writer.write(b"x")
        await writer.drain()
        writer.close()
        done.append(True)

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    server = await asyncio.start_server(serve, sock=listener, backlog=64)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
    # What the loop does when the listener is readable: it accepts, and what it accepted begins in the next turn.
    accept, _ = asyncio.get_running_loop()._selector.get_key(server.sockets[0].fileno()).data
    accept._run()
    await close(server)
    for _ in range(1000):
        if len(done) == len(clients):
            break
        await asyncio.sleep(0)
    got = []
    for client in clients:
        client.settimeout(0 if not done else 10)
        try:
            got.append(client.recv(1))
        except OSError:
            got.append(b"")
        client.close()
    listener.close()
    return got


class Close(unittest.TestCase):
    def test_what_was_accepted_in_this_turn_is_served(self):
        self.assertEqual(asyncio.run(answers(handover.close)), [b"x"] * 5)

    def test_that_is_not_so_without_it(self):
        async def close(server):
            server.close()

        # Where asyncio has mended it, `close` is no longer needed.
        self.assertEqual(asyncio.run(answers(close)), [b""] * 5)


if __name__ == "__main__":
    unittest.main()
