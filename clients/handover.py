"""A worker's side of handover: sockets, readiness, messages, logs and draining.

One file, no dependencies, Python 3.9 and later; copy it beside your program. What goes over the wire is
written down in handover's ``docs/protocol.md``. Without handover (started by hand, under another service manager, in
a test) every call here is harmless and ``listener`` binds the address that you name, so the program stays the same.

With asyncio::

    import asyncio, signal, handover

    async def serve(reader, writer): ...

    async def main():
        worker = await handover.connect_async()
        worker.drain_on(signal.SIGTERM, signal.SIGINT)
        http = await worker.listener("http", default="tcp://127.0.0.1:8080")
        server = await asyncio.start_server(serve, sock=http, backlog=4096)
        worker.ready()
        await worker.wait_for_drain()
        await handover.close(server)        # take nothing new, then finish what you have

    asyncio.run(main())

A plain loop::

    worker = handover.connect()
    worker.drain_on(signal.SIGTERM)
    http = worker.listener("http", default="tcp://127.0.0.1:8080")
    worker.ready()
    while not worker.draining:
        for listener in worker.wait([http]):        # turns the channel, too: pings are answered from here
            connection, peer = listener.accept()
            ...

A program whose loop belongs to a framework (a WSGI application, say)::

    worker = handover.connect(thread=True)
    logging.getLogger().addHandler(handover.LogHandler(worker))

There a thread reads the channel. It does not answer pings, and does not say that it could: a thread would answer while the
program hangs. Such a program is watched by what it serves, or calls ``heartbeat`` from where it works.

Three parts: ``_Session`` is the protocol without input and output; ``Worker`` and ``AsyncWorker`` move its bytes; what
both offer is in ``_Common``.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import inspect
import json
import logging
import math
import os
import re
import select
import signal
import socket
import stat
import sys
import threading
import time
import weakref
from collections import deque
from decimal import Decimal
from typing import Any, Awaitable, Callable, Deque, Dict, Iterable, Iterator, List, NamedTuple, NoReturn, Optional, Sequence, Set, Tuple, Union

__version__ = "0.1.0"
__all__ = [
    "AsyncWorker", "Drain", "Error", "Grant", "LogHandler", "Lost", "Message", "Refused", "Sent", "Worker",
    "close", "connect", "connect_async",
]

To = Union[str, Dict[str, Any]]
"""A receiver: ``"handover"``, ``"all"``, ``{"worker": 17}``, ``{"pool": "web"}`` or ``{"pool": "web", "slot": 2}``."""

HasFd = Union[int, socket.socket, Any]
"""A number, or anything with ``fileno()``."""

VERSION = 1
MAX_LINE = 65_536
MAX_MESSAGE = 1_048_576
MAX_DATA = 1_000_000
MAX_DEPTH = 64
MAX_FDS = 64
MAX_NUMBER = 2**53 - 1
MAX_TEXT = 1_024
MAX_TARGET = 256
MAX_FIELDS = 64

READ_SIZE = 262_144
"""Bytes a read: one page of many small lines, and no more than four reads for the largest line."""

READ_FDS = 253
"""The kernel's SCM_MAX_FD: with room for so many, MSG_CTRUNC means the limit of open files and nothing else."""

QUEUE_SOFT = 1_048_576
"""Above so many unsent bytes a sender waits, and logs, heartbeats and texts of status are left out (and counted)."""

HELLO_SECONDS = 5.0
"""handover's first line is there before the worker starts; a socket without one is not its channel."""


class Error(Exception):
    """What this module raises, beside ``ValueError`` for what may not be sent and ``OSError`` for sockets."""


class Refused(Error):
    """The other side said no. ``error`` is one of the protocol's words, or a worker's own; ``reason`` is for people."""

    def __init__(self, error: str, reason: str = "") -> None:
        super().__init__(f"{error}: {reason}" if reason else error)
        self.error = error
        self.reason = reason


class Lost(Error):
    """The channel ended before the answer came, or there is none."""


class _Fault(Exception):
    """handover broke the rules of the protocol: the channel's end."""


class Drain(NamedTuple):
    """Why and until when to finish. ``deadline_ms`` counts from its arrival; None: nobody said."""

    reason: str
    deadline_ms: Optional[int]


class Sent(NamedTuple):
    """What became of a message: how many workers have it queued, and ``{"worker": 19, "error": "queue_full"}`` for the others."""

    receivers: int
    refused: List[Dict[str, Any]]


class Grant(NamedTuple):
    """Sockets on request. ``name`` is what the listener is called from now on, ``address`` what it is bound to."""

    name: str
    address: str
    sockets: List[socket.socket]


class Reply(NamedTuple):
    """An answer with what travels beside its data. The caller owns ``fds``."""

    data: Any
    sender: Union[str, Dict[str, Any]]
    fds: List[int]


class Identity(NamedTuple):
    """Who this worker is, from its environment. Empty and None without handover."""

    name: str
    pool: str
    slot: Optional[int]
    generation: Optional[int]
    worker: Optional[int]


class Message:
    """A message from another worker or from handover.

    Fds that nobody took are closed when the handler has returned (an ``async`` one: when it has finished).
    """

    def __init__(self, owner: "_Common", line: Dict[str, Any], fds: List[int]) -> None:
        self._owner = owner
        self._id: Optional[int] = line.get("id") if line.get("reply") else None
        self._fds = fds
        self.data: Any = line["data"]
        self.sender: Union[str, Dict[str, Any]] = line["from"]
        self.wants_reply: bool = bool(line.get("reply"))

    def take_fds(self) -> List[int]:
        """Gives the fds to the caller, who closes them. Empty the second time."""
        taken, self._fds = self._fds, []
        return taken

    def take_sockets(self) -> List[socket.socket]:
        """As ``take_fds``, where every fd is a socket."""
        return _as_sockets(self.take_fds())

    def reply(self, data: Any, fds: Sequence[HasFd] = ()) -> None:
        """Answers. Once; without effect if no answer is wanted. The caller keeps its fds and may close them at once."""
        if self._id is None:
            return
        lines = _reply_line(self._id, data)
        self._owner._answer(self._id, lines, fds)
        self._id = None

    def refuse(self, error: str = "failed", reason: str = "") -> None:
        """Answers with a refusal. ``error`` may be a word of your own, for the asker's program."""
        if self._id is None:
            return
        line = {"type": "refused", "re": self._id, "error": error, "reason": _cut(reason, MAX_TEXT)}
        self._owner._answer(self._id, _encode(line), ())
        self._id = None

    def _close_fds(self) -> None:
        _close_all(self.take_fds())


# --- Lines -----------------------------------------------------------------------------------------------------------

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


def _depth(raw: bytes) -> int:
    """How deep arrays and objects nest, without parsing (a parser would recurse)."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return 0
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", raw)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _whole(text: str) -> Any:
    """A whole number of any size. Python refuses to read thousands of digits as an int."""
    if text == "-0":
        return -0.0                 # no whole number as the protocol has it, which is digits alone
    return int(text) if len(text) < 4_000 else Decimal(text)


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _dump(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:      # half of a surrogate pair, which only an escape can write
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _encode(line: Dict[str, Any], limit: int = MAX_LINE) -> bytes:
    """The line as bytes. ValueError: it may not be sent, and would cost the channel."""
    raw = _dump(line) + b"\n"
    if len(raw) > limit:
        raise ValueError(f"a {line['type']} of {len(raw)} bytes: at most {limit}")
    if _depth(raw) > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    return raw


def _with_data(line: Dict[str, Any], data: Any) -> bytes:
    size = len(_dump(data))
    if size > MAX_DATA:
        raise ValueError(f"data of {size} bytes: at most {MAX_DATA}")
    return _encode({**line, "data": data}, MAX_MESSAGE)


def _reply_line(re_: int, data: Any) -> bytes:
    return _with_data({"type": "reply", "re": re_}, data)


def _numbered(raw: bytes, id_: int, fds: int) -> bytes:
    """The same line with the members that are known only when it is queued."""
    extra = f'"id":{id_},' + (f'"fds":{fds},' if fds else "")
    return b"{" + extra.encode() + raw[1:]


def _cut(text: str, limit: int) -> str:
    """The text in at most so many bytes of UTF-8."""
    raw = text.encode("utf-8", "replace")
    return raw[:limit].decode("utf-8", "ignore") if len(raw) > limit else raw.decode()


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER


def _is_worker(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("pool"), str) and _is_number(value.get("slot")) and _is_number(value.get("worker"))


def _is_not_reached(value: Any) -> bool:
    return isinstance(value, dict) and _is_number(value.get("worker")) and isinstance(value.get("error"), str)


_KINDS: Dict[str, Callable[[Any], bool]] = {
    "any": lambda value: True,
    "bool": lambda value: isinstance(value, bool),
    "fds": lambda value: _is_number(value) and value <= MAX_FDS,
    "from": lambda value: value == "handover" or _is_worker(value),
    "not reached": lambda value: isinstance(value, list) and all(map(_is_not_reached, value)),
    "number": _is_number,
    "numbers": lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)),
    "some fds": lambda value: _is_number(value) and 1 <= value <= MAX_FDS,
    "string": lambda value: isinstance(value, str),
    "strings": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
}

# What handover says: the members of each type; with "?" where one may be missing.
_TYPES: Dict[str, Dict[str, str]] = {
    "ack": {"re": "number"},
    "drain": {"reason": "string", "deadline_ms": "number?"},
    "grant": {"re": "number", "name": "string", "address": "string", "fds": "some fds", "id": "number"},
    "hello": {"version": "number", "versions": "numbers", "capabilities": "strings", "name": "string", "pool": "string",
              "slot": "number", "generation": "number", "worker": "number"},
    "listener_removed": {"name": "string"},
    "message": {"from": "from", "data": "any", "id": "number?", "reply": "bool?", "fds": "fds?"},
    "ping": {"id": "number"},
    "refused": {"re": "number?", "error": "string", "reason": "string?"},
    "reply": {"re": "number", "from": "from", "data": "any", "id": "number?", "fds": "fds?"},
    "sent": {"re": "number", "receivers": "number", "refused": "not reached"},
}


def _parse(raw: bytes) -> Dict[str, Any]:
    """A line that keeps the rules; of an unknown type, its envelope only."""
    if _depth(raw) > MAX_DEPTH:
        raise _Fault(f"a line nests more than {MAX_DEPTH} deep")
    try:
        line = json.loads(raw.decode("utf-8"), parse_int=_whole, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise _Fault(f"a line is no JSON: {error}") from None
    if not isinstance(line, dict):
        raise _Fault("a line is no object")
    kind = line.get("type")
    if not isinstance(kind, str):
        raise _Fault('a line has no "type"')
    if len(raw) >= MAX_LINE and kind not in ("message", "reply"):
        raise _Fault(f"a {kind} of {len(raw) + 1} bytes")
    for member, wanted in {"fds": "fds?", **_TYPES.get(kind, {})}.items():
        if member not in line:
            if not wanted.endswith("?"):
                raise _Fault(f'a {kind} without "{member}"')
        elif not _KINDS[wanted.rstrip("?")](line[member]):
            raise _Fault(f'a {kind} with a wrong "{member}"')
        elif kind == "hello" and member == "versions" and not _is_spoken(line):
            return line                 # of another version: what else it has may be anything
    if kind in _TYPES and "fds" not in _TYPES[kind] and line.get("fds", 0) > 0:
        raise _Fault(f"a {kind} with fds")
    return line


def _is_spoken(hello: Dict[str, Any]) -> bool:
    return bool(hello["versions"][0] <= VERSION <= hello["version"])


# --- Fds -------------------------------------------------------------------------------------------------------------


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass


def _number_of(fd: HasFd) -> int:
    return fd if isinstance(fd, int) else int(fd.fileno())


def _copies(fds: Sequence[HasFd]) -> List[int]:
    """Copies of our own, to be held until the receiver has them; the caller's stay the caller's."""
    if len(fds) > MAX_FDS:
        raise ValueError(f"{len(fds)} fds: at most {MAX_FDS}")
    copies: List[int] = []
    try:
        for fd in fds:
            copies.append(os.dup(_number_of(fd)))
    except BaseException:
        _close_all(copies)
        raise
    return copies


def _as_sockets(fds: List[int]) -> List[socket.socket]:
    sockets: List[socket.socket] = []
    try:
        while fds:
            sockets.append(socket.socket(fileno=fds[0]))
            fds.pop(0)
    except OSError:
        _close_all(fds)
        for one in sockets:
            one.close()
        raise
    return sockets


def _receive(channel: socket.socket) -> Tuple[bytes, List[int]]:
    """One recvmsg: the bytes and the fds that came with them, close-on-exec."""
    room = socket.CMSG_SPACE(READ_FDS * array.array("i").itemsize)
    data, ancillary, flags, _ = channel.recvmsg(READ_SIZE, room, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    if not hasattr(socket, "MSG_CMSG_CLOEXEC"):
        for fd in fds:
            os.set_inheritable(fd, False)
    if flags & socket.MSG_CTRUNC:
        _close_all(fds)
        raise _Fault("fds were cut off: this process is at its limit of open files")
    return data, list(fds)


def _poll(reads: Iterable[int], writes: Iterable[int], timeout: Optional[float]) -> Set[int]:
    """Which of the fds are ready (or broken). Without the limit of 1,024 that select has."""
    poll = select.poll()
    interest: Dict[int, int] = {}
    for fd in (one for one in reads if one >= 0):
        interest[fd] = interest.get(fd, 0) | select.POLLIN
    for fd in writes:
        interest[fd] = interest.get(fd, 0) | select.POLLOUT
    for fd, events in interest.items():
        poll.register(fd, events)
    return {fd for fd, _ in poll.poll(None if timeout is None else math.ceil(max(timeout, 0) * 1000))}


def _channel_from_environment() -> Optional[socket.socket]:
    """The channel, out of HANDOVER_CHANNEL and close-on-exec; None where there is none."""
    text = os.environ.pop("HANDOVER_CHANNEL", "")
    if not (text.isascii() and text.isdigit()):
        return None
    fd = int(text)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return None
        channel = socket.socket(fileno=fd)
    except (OSError, OverflowError):
        return None
    try:
        if channel.family != socket.AF_UNIX or channel.type != socket.SOCK_STREAM:
            raise OSError(errno.EPROTOTYPE, "no Unix stream socket")
        channel.getpeername()       # a listening socket of another kind has no peer
        channel.set_inheritable(False)
        channel.setblocking(False)
        return channel
    except OSError:
        channel.detach()            # somebody else's
        return None


# --- The protocol, without input and output ----------------------------------------------------------------------------


class _Event(NamedTuple):
    """Something for the program. ``kind``: message, answer, drain, removed, lost."""

    kind: str
    line: Dict[str, Any]
    fds: List[int]


class _Session:
    """Turns bytes and fds into events, and lines into a queue of bytes and fds. No clock, no socket, no lock.

    Whoever moves the bytes calls ``feed`` or ``end`` for what came, takes ``events``, and writes ``out`` from its front:
    the fds of an entry with its first byte.
    """

    def __init__(self, capabilities: Sequence[str]) -> None:
        self._ours = list(capabilities)
        self._buffer = bytearray()
        self._searched = 0
        self._fds: Deque[int] = deque()
        self._next_id = 0
        self._asked: Dict[int, str] = {}        # our questions without an answer, and the type that it has to have
        self._kept: Dict[int, List[int]] = {}   # our copies of fds, until they are acknowledged
        self._questions: Set[int] = set()       # handover's, without an answer
        self.events: Deque[_Event] = deque()
        self.out: Deque[Tuple[memoryview, List[int]]] = deque()
        self.out_bytes = 0
        self.capabilities: Optional[Set[str]] = None    # handover's; None until its hello
        self.open = True
        self.plain = False                              # no common version
        self.lost: Optional[str] = None
        self.drain: Optional[Drain] = None
        self.left_out = 0

    def question(self, answer: str) -> int:
        """A fresh id, whose answer (a line of this type, or ``refused``) will come as an event."""
        self._next_id += 1
        self._asked[self._next_id] = answer
        return self._next_id

    def forget(self, id_: int) -> None:
        """Nobody waits for this answer any more."""
        self._asked.pop(id_, None)

    def write(self, raw: bytes, fds: Optional[List[int]] = None, id_: Optional[int] = None) -> None:
        """Queues a line; with fds (ours from now on), which are held until the acknowledgement of ``id_``."""
        if not self.open:
            _close_all(fds or ())
            return
        if fds:
            assert id_ is not None
            self._kept[id_] = fds
        self.out.append((memoryview(raw), list(fds or ())))
        self.out_bytes += len(raw)

    def write_answer(self, question: int, raw: bytes, fds: List[int]) -> None:
        """Queues the one answer to a question of handover's."""
        self._questions.discard(question)
        if not fds:
            self.write(raw)
            return
        self._next_id += 1
        self.write(_numbered(raw, self._next_id, len(fds)), fds, self._next_id)

    def write_if_room(self, raw: bytes) -> bool:
        """Queues what may be left out when handover does not read, and says later how much was."""
        if not self.open:
            return False
        if self.out_bytes + len(raw) > QUEUE_SOFT:
            self.left_out += 1
            return True
        if self.left_out and self.capabilities and "log" in self.capabilities:
            note = {"type": "log", "level": "warn", "message": "lines were left out while handover did not read",
                    "target": "handover", "fields": {"lines": self.left_out}}
            self.left_out = 0
            self.write(_encode(note))
        self.write(raw)
        return True

    def written(self, count: int) -> None:
        """So many bytes of the first entry of ``out`` are on their way, and its fds with them."""
        rest, _ = self.out.popleft()
        self.out_bytes -= count
        if count < len(rest):
            self.out.appendleft((rest[count:], []))

    def feed(self, data: bytes, fds: List[int]) -> None:
        """Takes what one read gave. _Fault: the channel's end."""
        self._fds.extend(fds)
        self._buffer += data
        while self.open:
            end = self._buffer.find(b"\n", self._searched)
            length = (end if end >= 0 else len(self._buffer)) + 1
            if length > MAX_MESSAGE:
                raise _Fault(f"a line of more than {MAX_MESSAGE} bytes")
            if end < 0:
                self._searched = len(self._buffer)
                break
            raw = bytes(memoryview(self._buffer)[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            self._take(_parse(raw))
        if self._fds and not self._buffer:
            raise _Fault(f"{len(self._fds)} fds came where none belong")

    def _take(self, line: Dict[str, Any]) -> None:
        kind: str = line["type"]
        if (kind == "hello") != (self.capabilities is None) and kind != "refused":
            raise _Fault("a second hello" if kind == "hello" else f"a {kind} before the hello")
        count = line.get("fds", 0)
        if count > len(self._fds):
            raise _Fault(f"a {kind} says {count} fds, {len(self._fds)} came")
        fds = [self._fds.popleft() for _ in range(count)]
        if fds and not _is_number(line.get("id")):
            _close_all(fds)
            if kind in _TYPES:
                raise _Fault(f"a {kind} with fds and without an id")
            return
        if fds and kind in _TYPES:
            self.write(_encode({"type": "ack", "re": line["id"]}))
        self._dispatch(kind, line, fds)

    def _dispatch(self, kind: str, line: Dict[str, Any], fds: List[int]) -> None:
        if kind == "hello":
            self._hello(line)
        elif kind == "ping":
            self.write(_encode({"type": "pong", "re": line["id"]}))
        elif kind == "drain":
            self._drain(Drain(line["reason"], line.get("deadline_ms")))
        elif kind == "listener_removed":
            self.events.append(_Event("removed", line, fds))
        elif kind == "ack":
            _close_all(self._kept.pop(line["re"], ()))
        elif kind == "message":
            self._message(line, fds)
        elif kind in ("grant", "sent", "reply", "refused"):
            self._answer(line, fds)
        else:
            _close_all(fds)
            if _is_number(line.get("id")):      # somebody waits
                self.write(_encode({"type": "refused", "re": line["id"], "error": "unsupported",
                                    "reason": "lines of this type are not known here"}))

    def _hello(self, line: Dict[str, Any]) -> None:
        if not _is_spoken(line):
            self.capabilities = set()
            self.plain = True
            self.close()
            return
        self.capabilities = set(line["capabilities"])
        self.write(_encode({"type": "hello", "version": VERSION, "capabilities": self._ours,
                            "client": f"handover-python {__version__}"}))

    def _message(self, line: Dict[str, Any], fds: List[int]) -> None:
        if line.get("reply"):
            if "id" not in line:
                raise _Fault('a message with "reply" and without an id')
            if line["id"] in self._questions:
                raise _Fault(f"id {line['id']} is still in use")
            self._questions.add(line["id"])
        self.events.append(_Event("message", line, fds))

    def _answer(self, line: Dict[str, Any], fds: List[int]) -> None:
        re_ = line.get("re")
        if re_ is None:             # only a refusal may be without, and then it is about the whole channel
            if line["type"] != "refused":
                raise _Fault(f"a {line['type']} without \"re\"")
            self._refused_channel(line)
            return
        if line["type"] == "refused":
            _close_all(self._kept.pop(re_, ()))         # of a reply's fds, too, which is no question
        wanted = self._asked.pop(re_, None)
        if wanted is None:
            _close_all(fds)
            return
        if line["type"] not in (wanted, "refused"):
            _close_all(fds)
            line, fds = {"type": "refused", "re": re_, "error": "failed", "reason": f"it was answered with {line['type']}"}, []
        self.events.append(_Event("answer", line, fds))

    def _refused_channel(self, line: Dict[str, Any]) -> None:
        if line["error"] == "version":
            self.plain = True
            self.close()
        else:
            self.lose(f"handover refused the channel: {line['error']}: {line.get('reason', '')}")

    def _drain(self, drain: Drain) -> None:
        if self.drain is None:
            self.drain = drain
            self.events.append(_Event("drain", {}, []))

    def end(self) -> None:
        """End of file: handover is gone, and our successor can have our address soon."""
        if self.open:
            self.close()
            self._drain(Drain("handover is gone", None))

    def lose(self, why: str) -> None:
        """The channel's end by an error of either side."""
        if self.open:
            self.lost = why
            self.events.append(_Event("lost", {}, []))
            self.close()

    def fault(self, why: str) -> bytes:
        """As ``lose``, when handover broke the rules: what to tell it, if that can still be written."""
        between = not self.out or len(self.out[0][0]) == len(self.out[0][0].obj)  # type: ignore[arg-type]
        self.lose(why)
        return _encode({"type": "refused", "error": "protocol", "reason": _cut(why, MAX_TEXT)}) if between else b""

    @property
    def is_done(self) -> bool:
        """Nothing waits to be written, and what was sent with fds has arrived."""
        return not self.open or not (self.out or self._kept)

    def close(self) -> None:
        """Closes every fd that is held or queued. Events that came before stay."""
        self.open = False
        _close_all(self._fds)
        self._fds.clear()
        for fds in self._kept.values():
            _close_all(fds)
        self._kept.clear()
        self.out.clear()
        self.out_bytes = 0
        self._buffer.clear()
        self._searched = 0


def _flush(channel: socket.socket, session: _Session) -> bool:
    """Writes what the socket takes. True: all of it."""
    while session.out:
        raw, fds = session.out[0]
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            count = channel.sendmsg([raw], ancillary, getattr(socket, "MSG_NOSIGNAL", 0))
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno == errno.ETOOMANYREFS:   # too many fds on their way; they go when some have arrived
                return False
            # It closed its end. What it wrote before is still to be read, and then the end of file says so.
            session.out.clear()
            session.out_bytes = 0
            return True
        session.written(count)
    return True


def _fill(channel: socket.socket, session: _Session, reads: int = 8) -> None:
    """Reads what is there (a bounded part of it), and takes it in."""
    try:
        for _ in range(reads):
            try:
                data, fds = _receive(channel)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                session.end()
                return
            if not data:
                _close_all(fds)
                session.end()
                return
            session.feed(data, fds)
            if not session.open:
                return
    except _Fault as fault:
        last = session.fault(str(fault))
        try:
            if last:
                channel.sendmsg([last], [], getattr(socket, "MSG_NOSIGNAL", 0))
        except OSError:
            pass


# --- Without a channel ---------------------------------------------------------------------------------------------------


def _notify(text: str) -> None:
    """Tells the service manager, as sd_notify(3). Without effect where none listens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.setblocking(False)
            to.sendto(text.encode(), "\0" + path[1:] if path[0] == "@" else path)
    except OSError:
        pass


def _bind(address: str) -> socket.socket:
    """A listening socket of our own, for a program that runs without handover."""
    scheme, separator, rest = address.partition("://")
    if address.startswith("unix:@"):
        return _bind_unix("\0" + address[len("unix:@"):], socket.SOCK_STREAM)
    unix = {"unix": socket.SOCK_STREAM, "unix-dgram": socket.SOCK_DGRAM, "unix-seqpacket": socket.SOCK_SEQPACKET}
    if separator and scheme in unix:
        return _bind_unix(rest, unix[scheme])
    host, colon, port = rest.rpartition(":")
    if scheme not in ("tcp", "udp") or not colon or not port.isdigit():
        raise ValueError(f"{address!r} is no address: tcp://HOST:PORT, udp://HOST:PORT, unix:///PATH")
    kind = socket.SOCK_STREAM if scheme == "tcp" else socket.SOCK_DGRAM
    found = socket.getaddrinfo(host.strip("[]") or None, int(port), type=kind, flags=socket.AI_PASSIVE)
    family, kind_, protocol, _, where = found[0]
    bound = socket.socket(family, kind_, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(where)
        if kind == socket.SOCK_STREAM:
            bound.listen(4096)
    except OSError:
        bound.close()
        raise
    return bound


def _bind_unix(path: str, kind: int) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, kind)
    try:
        try:
            bound.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or path.startswith("\0") or not _is_stale(path, kind):
                raise
            os.unlink(path)
            bound.bind(path)
        if kind != socket.SOCK_DGRAM:
            bound.listen(4096)
    except OSError:
        bound.close()
        raise
    return bound


def _is_stale(path: str, kind: int) -> bool:
    """A socket file that nobody listens on: what an earlier run left behind."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, kind) as attempt:
            attempt.settimeout(1)
            attempt.connect(path)
        return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


class _Inherited:
    """Listeners passed at the start: LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID (sd_listen_fds(3)).

    Looked at, and taken out of the environment, only when the program asks for the first: a program that has its
    server take them keeps them as they are.
    """

    def __init__(self) -> None:
        self._named: Optional[List[Tuple[str, int]]] = None

    def take(self, name: str) -> List[socket.socket]:
        """Every socket of this name. Each is given away once, and belongs to the caller."""
        if self._named is None:
            self._named = self._read()
        found = [fd for named, fd in self._named if named == name]
        self._named = [one for one in self._named if one[0] != name]
        return _as_sockets(found)

    @staticmethod
    def _read() -> List[Tuple[str, int]]:
        pid = os.environ.get("LISTEN_PID")
        # handover leaves LISTEN_PID out for programs behind a wrapper (`listen_pid = false`); nobody else's fds are ours.
        ours = pid == str(os.getpid()) if pid is not None else "HANDOVER_POOL" in os.environ
        count = os.environ.get("LISTEN_FDS", "")
        if not ours or not (count.isascii() and count.isdigit()):
            return []
        names = os.environ.get("LISTEN_FDNAMES", "")
        split = names.split(":") if names else []
        for variable in ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "LISTEN_PIDFDID"):
            os.environ.pop(variable, None)
        named: List[Tuple[str, int]] = []
        for index in range(min(int(count), 65_536)):
            fd = 3 + index
            try:
                os.set_inheritable(fd, False)
            except OSError:
                continue
            named.append((split[index] if index < len(split) else "unknown", fd))
        return named


def _identity() -> Identity:
    def number(name: str) -> Optional[int]:
        text = os.environ.get(name, "")
        return int(text) if text.isascii() and text.isdigit() else None

    return Identity(os.environ.get("HANDOVER_NAME", ""), os.environ.get("HANDOVER_POOL", ""), number("HANDOVER_SLOT"),
                    number("HANDOVER_GENERATION"), number("HANDOVER_WORKER"))


# --- What both workers offer ---------------------------------------------------------------------------------------------


def _log_line(level: str, message: str, target: str, fields: Optional[Dict[str, Any]]) -> bytes:
    """A record in one line, shortened until it fits."""
    kept = {str(name): _plain_value(value) for name, value in list((fields or {}).items())[:MAX_FIELDS]}
    limit = MAX_LINE
    while True:
        line: Dict[str, Any] = {"type": "log", "level": level, "message": _cut(message, limit)}
        if target:
            line["target"] = _cut(target, MAX_TARGET)
        if kept:
            line["fields"] = {_cut(name, limit): _cut(value, limit) if isinstance(value, str) else value
                              for name, value in kept.items()}
        raw = _dump(line) + b"\n"
        if len(raw) <= MAX_LINE:
            return raw
        limit //= 2
        if limit < 16:
            kept = {}
            limit = MAX_LINE // 8


def _plain_value(value: Any) -> Any:
    """What may stand in a field: strings, numbers, booleans and nulls; the rest as text."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if abs(value) <= MAX_NUMBER else str(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _message_line(to: To, data: Any, reply: bool = False, timeout_ms: Optional[int] = None) -> bytes:
    line: Dict[str, Any] = {"type": "message", "to": to}
    if reply:
        line["reply"] = True
    if timeout_ms is not None:
        line["timeout_ms"] = timeout_ms
    return _with_data(line, data)


_LISTENING_ADDRESS = re.compile(r"[a-z-]+:(//|@)")


class _Common:
    """What the blocking and the asyncio worker share; they differ in how bytes move and in how an answer is awaited."""

    def __init__(self, channel: Optional[socket.socket], capabilities: Sequence[str]) -> None:
        self.identity = _identity()
        self._channel = channel
        self._session = _Session(capabilities)
        if channel is None:
            self._session.close()
        self._inherited = _Inherited()
        self._asked_to_drain: Optional[Drain] = None
        self._on_message: Optional[Callable[[Message], Any]] = None
        self._on_drain: List[Callable[[Drain], Any]] = []
        self._on_removed: Optional[Callable[[str], Any]] = None
        self._on_lost: Optional[Callable[[str], Any]] = None
        reference = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forked(reference))

    # How bytes move.

    def _queue(self, raw: bytes, may_leave_out: bool = False) -> bool:
        raise NotImplementedError

    def _answer(self, question: int, raw: bytes, fds: Sequence[HasFd]) -> None:
        raise NotImplementedError

    def _after_fork(self) -> None:
        """In a child of this process: the channel is the parent's."""
        if self._channel is not None:
            self._session.close()
            self._channel.close()
            self._channel = None

    # State.

    @property
    def connected(self) -> bool:
        """There is a channel, and it is open."""
        return self._session.open and self._session.capabilities is not None

    @property
    def lost(self) -> Optional[str]:
        """Why the channel ended, if it ended by an error. handover then replaces this worker, and signals it when its successor serves."""
        return self._session.lost

    @property
    def draining(self) -> bool:
        """Asked to finish: by handover, by its end, or by a signal (``drain_on``)."""
        return self._asked_to_drain is not None or self._session.drain is not None

    @property
    def drain_request(self) -> Optional[Drain]:
        """Why and until when to finish, once it was asked."""
        return self._asked_to_drain or self._session.drain

    def can(self, capability: str) -> bool:
        """handover does this: ``"listen"``, ``"messages"``, ``"log"``, …"""
        return self.connected and capability in (self._session.capabilities or ())

    def inherited(self, name: str) -> List[socket.socket]:
        """The sockets of this name from LISTEN_FDS, and no others; each is given once. ``listener`` looks here first."""
        return self._inherited.take(name)

    # What to tell the program.

    def on_message(self, handler: Optional[Callable[[Message], Any]]) -> None:
        """Calls ``handler`` with each ``Message``. It may be ``async`` in an ``AsyncWorker``.

        Without one, messages are dropped, and questions refused as ``unsupported``. A question whose handler raised is
        refused as ``failed``.
        """
        self._on_message = handler

    def on_drain(self, callback: Callable[[Drain], Any]) -> None:
        """Calls ``callback`` once when it is time to finish; at once if it already is."""
        request = self.drain_request
        if request is not None:
            callback(request)
        else:
            self._on_drain.append(callback)

    def on_listener_removed(self, callback: Optional[Callable[[str], Any]]) -> None:
        """Calls ``callback`` with the name of a listener that handover has let go of: close it."""
        self._on_removed = callback

    def on_lost(self, callback: Optional[Callable[[str], Any]]) -> None:
        """Calls ``callback`` with the reason when the channel ends by an error. Go on serving until the stop signal."""
        self._on_lost = callback

    # What to tell handover.

    def ready(self) -> None:
        """This worker can serve."""
        self._say({"type": "ready"}, "READY=1")

    def status(self, text: str) -> None:
        """One line for people, shown by ``handover status``. Cut to 1,024 bytes."""
        text = _cut(text, MAX_TEXT)
        self._say({"type": "status", "text": text}, "STATUS=" + text.replace("\n", " "), may_leave_out=True)

    def heartbeat(self) -> None:
        """Feeds the pool's ``watchdog``. Call it from where the program works."""
        self._say({"type": "heartbeat"}, "WATCHDOG=1", may_leave_out=True)

    def extend_timeout(self, ms: int) -> None:
        """It needs so many milliseconds more, counted from now, for its start or its end."""
        self._say({"type": "extend_timeout", "ms": int(ms)}, f"EXTEND_TIMEOUT_USEC={int(ms) * 1000}")

    def stopping(self) -> None:
        """It is ending by itself, and wishes to be followed."""
        self._say({"type": "stopping"}, "STOPPING=1")

    def replace(self, reason: str = "") -> None:
        """It wishes to be replaced; it serves until its successor is ready and it is asked to drain."""
        line: Dict[str, Any] = {"type": "replace"}
        if reason:
            line["reason"] = _cut(reason, MAX_TEXT)
        self._say(line, "")

    def log(self, level: str, message: str, target: str = "", fields: Optional[Dict[str, Any]] = None) -> bool:
        """A record with level (``error``, ``warn``, ``info``, ``debug``, ``trace``) and fields. False: nobody took it.

        From any thread. It never waits: while handover does not read, records are left out and counted.
        """
        if not self.can("log"):
            return False
        return self._queue(_log_line(level, message, target, fields), may_leave_out=True)

    def _say(self, line: Dict[str, Any], notify: str, may_leave_out: bool = False) -> None:
        if self.connected:
            self._queue(_encode(line), may_leave_out)
        elif notify:
            _notify(notify)

    # Parts of the two workers.

    def _require(self, capability: str) -> None:
        if not self.connected:
            raise Lost(self._session.lost or "there is no channel to handover")
        if not self.can(capability):
            raise Refused("unsupported", f"this handover has no {capability}")

    def _start_question(self, answer: str, raw: bytes, fds: Sequence[HasFd]) -> int:
        if fds:
            self._require("fds")
        copies = _copies(fds)
        id_ = self._session.question(answer)
        self._session.write(_numbered(raw, id_, len(copies)), copies, id_)
        return id_

    def _begin_message(self, event: _Event) -> Optional[Message]:
        message = Message(self, event.line, event.fds)
        if self._on_message is None:
            message._close_fds()
            message.refuse("unsupported", "this worker takes no messages")
            return None
        return message

    def _drain_now(self, drain: Drain) -> None:
        if self._asked_to_drain is None:
            self._asked_to_drain = drain
            callbacks, self._on_drain = self._on_drain, []
            for callback in callbacks:
                _guard(callback, drain)

    def _local(self, name: str, default: Optional[str]) -> List[socket.socket]:
        address = default or (name if _LISTENING_ADDRESS.match(name) else None)
        if address is None:
            raise Error(f"listener {name!r}: not passed to this process, there is no handover, and no default address")
        return [_bind(address)]

    @staticmethod
    def _question_for(name: str) -> Dict[str, Any]:
        member = "address" if _LISTENING_ADDRESS.match(name) else "name"
        return {"type": "listen", member: name}

    @staticmethod
    def _only(name: str, sockets: List[socket.socket]) -> socket.socket:
        if len(sockets) == 1:
            return sockets[0]
        for one in sockets:
            one.close()
        raise Error(f"listener {name!r} has {len(sockets)} sockets: use listeners()")


def _forked(reference: "weakref.ref[_Common]") -> None:
    worker = reference()
    if worker is not None:
        worker._after_fork()


def _guard(callback: Callable[..., Any], *arguments: Any) -> Any:
    """A callback that fails is the program's fault, and must not cost it the channel."""
    try:
        return callback(*arguments)
    except Exception:
        logging.getLogger("handover").exception("a callback failed")
        return None


def _answered(line: Dict[str, Any], fds: List[int]) -> Any:
    """An answer as what a caller wants to see. Raises Refused."""
    kind = line["type"]
    if kind == "refused":
        raise Refused(line["error"], line.get("reason", ""))
    if kind == "grant":
        return Grant(line["name"], line["address"], _as_sockets(fds))
    if kind == "sent":
        _close_all(fds)
        return Sent(line["receivers"], line["refused"])
    return Reply(line["data"], line["from"], fds)


def _data_of(reply: Any) -> Any:
    """Only the data; with fds that nobody asked for closed."""
    if isinstance(reply, Reply):
        _close_all(reply.fds)
        return reply.data
    return None


def _capabilities(drain: bool, ping: bool, messages: bool) -> List[str]:
    wanted = [("drain", drain), ("ping", ping), ("listen", True), ("messages", messages), ("fds", True)]
    return [name for name, is_wanted in wanted if is_wanted]


# --- Blocking ------------------------------------------------------------------------------------------------------------


def connect(*, drain: bool = True, ping: bool = True, messages: bool = True, thread: bool = False) -> "Worker":
    """Connects a program without an event loop. Once a process. Never fails: without handover the worker is a plain one.

    ``drain``: the program finishes when it is asked to; say False if it waits for the stop signal anyway.
    ``ping``: it turns the channel (``wait`` or ``poll``) at least every ``ping_timeout``, even when idle, so that one which
    does not is found out. ``messages``: it takes messages. ``thread``: a thread turns the channel and calls the
    callbacks; then pings are not answered (see the top of this file).
    """
    worker = Worker(_channel_from_environment(), _capabilities(drain, ping and not thread, messages))
    worker._open()
    if thread:
        worker._start_thread()
    return worker


class Worker(_Common):
    """A blocking worker; from ``connect``. Its methods may be called from any thread; callbacks run in the one that turns the channel."""

    def __init__(self, channel: Optional[socket.socket], capabilities: Sequence[str]) -> None:
        super().__init__(channel, capabilities)
        self._changed = threading.Condition(threading.RLock())
        self._reader: Optional[int] = None      # the thread that waits for the channel, on behalf of all
        self._delivering = threading.RLock()
        self._answers: Dict[int, _Event] = {}
        self._pump: Optional[threading.Thread] = None
        self._bell, self._bell_rope = _socket_pair()        # readable from the moment when it is time to finish
        self._sleepers: List[Tuple[socket.socket, socket.socket]] = []      # threads in poll(2), and how to wake them
        self._spare: List[Tuple[socket.socket, socket.socket]] = []

    # Turning the channel.

    def fileno(self) -> int:
        """The channel, for a selector of your own: call ``poll`` when it is readable. -1 without one."""
        return self._channel.fileno() if self._channel is not None and self._session.open else -1

    def poll(self, timeout: Optional[float] = 0.0) -> bool:
        """Reads what came, answers pings, calls the callbacks. Waits up to ``timeout`` seconds (None: for ever) for something to do.

        True if something was. Call it often; or use ``wait``, which does.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._deliver():
                return True
            if self.fileno() < 0 and timeout is None and self.draining:
                return False
            self._turn(deadline, lambda: bool(self._session.events))
            if self._deliver():
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def wait(self, sources: Sequence[Any] = (), timeout: Optional[float] = None) -> List[Any]:
        """Waits until one of ``sources`` (sockets or fds) is readable, and turns the channel meanwhile.

        Gives those that are; an empty list after ``timeout`` seconds, and when the worker is asked to drain.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        was_draining = self.draining
        numbers = {_number_of(one): one for one in sources}
        while True:
            self._deliver()
            if self.draining and not was_draining:
                return []
            channel = self.fileno() if self._pump is None else -1
            with self._asleep() as alarm:
                reads = [*numbers, alarm] + ([] if was_draining else [self._bell.fileno()]) + ([channel] if channel >= 0 else [])
                writes = [channel] if channel >= 0 and self._session.out else []
                is_work = bool(self._session.events) and self._pump is None
                ready = _poll(reads, writes, 0 if is_work else _left(deadline, alarm))
            if channel in ready:
                self._move()
                self._deliver()
            found = [numbers[fd] for fd in numbers if fd in ready]
            if found and (was_draining or not self.draining):
                return found
            if deadline is not None and time.monotonic() >= deadline:
                return []

    def wait_for_drain(self) -> Drain:
        """Turns the channel until it is time to finish, and says why."""
        while not self.draining:
            self.wait()
        request = self.drain_request
        assert request is not None
        return request

    def drain_on(self, *signals: int) -> None:
        """Treats these signals as a request to finish, too. From the main thread."""
        def arrived(number: int, _frame: Any) -> None:
            if self._asked_to_drain is None and self._session.drain is None:
                self._session.drain = Drain(f"signal {signal.Signals(number).name}", None)
                self._session.events.append(_Event("drain", {}, []))
                self._ring()

        for number in signals:
            signal.signal(number, arrived)

    # Sockets.

    def listener(self, name: str, default: Optional[str] = None) -> socket.socket:
        """The listening socket of this name, or for this address; the caller's from now on.

        From LISTEN_FDS, else from the channel, else (without handover) bound here to ``default``, or to ``name`` if that is an
        address. Refused: handover does not give it. Error: it is not to be had, or has several sockets.
        """
        return self._only(name, self.listeners(name, default))

    def listeners(self, name: str, default: Optional[str] = None) -> List[socket.socket]:
        """As ``listener``, all of its sockets: an address with several, or one bound in several parts."""
        inherited = self._inherited.take(name)
        if inherited:
            return inherited
        return self.listen(name).sockets if self.can("listen") else self._local(name, default)

    def listen(self, name: str) -> Grant:
        """Asks handover for a listener by name or by address (``tcp://127.0.0.1:0``). Refused, Lost."""
        self._require("listen")
        grant = self._ask("grant", _encode(self._question_for(name)), ())
        assert isinstance(grant, Grant)
        return grant

    # Messages.

    def send(self, to: To, data: Any) -> None:
        """Sends without asking what becomes of it. Waits while the channel is full. Without handover it goes nowhere."""
        if self.can("messages"):
            self._queue(_message_line(to, data))

    def deliver(self, to: To, data: Any, fds: Sequence[HasFd] = ()) -> Sent:
        """Sends, and says what became of it. Refused if nobody got it.

        With ``fds`` (at most 64, to one receiver): when this returns the receiver has them and the caller closes its own; after
        Refused it still has them.
        """
        self._require("messages")
        sent = self._ask("sent", _message_line(to, data), fds)
        assert isinstance(sent, Sent)
        return sent

    def ask(self, to: To, data: Any, timeout_ms: Optional[int] = None, fds: Sequence[HasFd] = ()) -> Any:
        """Sends a question to one receiver, and gives the data of its reply. Refused: also ``gone`` and ``timeout`` (30 s)."""
        return _data_of(self.ask_fully(to, data, timeout_ms, fds))

    def ask_fully(self, to: To, data: Any, timeout_ms: Optional[int] = None, fds: Sequence[HasFd] = ()) -> Reply:
        """As ``ask``, with who replied and the fds of the reply, which are the caller's."""
        self._require("messages")
        reply = self._ask("reply", _message_line(to, data, True, timeout_ms), fds)
        assert isinstance(reply, Reply)
        return reply

    def close(self) -> None:
        """Calls the callbacks for what came (or waits for those that run), writes what is queued, waits until fds that were sent have
        arrived (both for a second at most), and closes the channel.

        At the end of a program that drains or said ``stopping``; before, handover replaces the worker.
        """
        with self._delivering:
            self._deliver()
        deadline = time.monotonic() + 1.0
        with self._changed:
            self._flush_fully(deadline)
        while not self._session.is_done and time.monotonic() < deadline:
            self._turn(deadline, lambda: self._session.is_done)
        with self._changed:
            if self._channel is not None:
                self._session.close()
                self._session.events.clear()
                try:
                    self._channel.shutdown(socket.SHUT_RDWR)    # wakes a thread that waits for it
                except OSError:
                    pass
                self._settle()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    # Inside.

    def _open(self) -> None:
        deadline = time.monotonic() + HELLO_SECONDS
        while self._session.open and self._session.capabilities is None:
            if time.monotonic() >= deadline:
                self._session.close()
            else:
                self._turn(deadline, lambda: self._session.capabilities is not None)
        if self._session.drain is not None and self._session.capabilities is None:
            self._session.drain = None      # it closed without a word: there never was a channel
            self._session.events.clear()
        self._settle()

    def _start_thread(self) -> None:
        if self._session.open:
            self._pump = threading.Thread(target=self._run, name="handover", daemon=True)
            self._pump.start()

    def _run(self) -> None:
        while self._session.open or self._session.events:
            self.poll(None)

    def _ring(self) -> None:
        try:
            self._bell_rope.send(b"!")
        except OSError:
            pass

    def _move(self) -> None:
        """Reads and writes what goes without waiting."""
        with self._changed:
            if self._channel is not None and self._session.open:
                _fill(self._channel, self._session)
                if self._session.open:
                    _flush(self._channel, self._session)
            self._settle()

    def _settle(self) -> None:
        """Hands answers to those who wait, and closes the socket of a session that ended."""
        with self._changed:
            for event in [one for one in self._session.events if one.kind == "answer"]:
                self._session.events.remove(event)
                self._answers[event.line["re"]] = event
            for _, rope in self._sleepers:
                with contextlib.suppress(OSError):
                    rope.send(b"!")
            if self._session.drain is not None:
                self._ring()
            if not self._session.open and self._channel is not None and self._reader is None:
                self._channel.close()
                self._channel = None
            self._changed.notify_all()

    @contextlib.contextmanager
    def _asleep(self) -> Iterator[int]:
        """While a thread is in poll(2): an fd that becomes readable when another thread changed something.

        -1 at the limit of open files: then it sleeps for a moment only.
        """
        with self._changed:
            try:
                pair = self._spare.pop() if self._spare else _socket_pair()
            except OSError:
                pair = None
            if pair is not None:
                self._sleepers.append(pair)
        if pair is None:
            yield -1
            return
        try:
            yield pair[0].fileno()
        finally:
            with self._changed:
                self._sleepers.remove(pair)
                self._spare.append(pair)
                with contextlib.suppress(BlockingIOError):
                    while pair[0].recv(4096):
                        pass

    def _turn(self, deadline: Optional[float], is_done: Callable[[], bool]) -> None:
        """Waits once, for the channel or for the thread that already does; not at all if it is done."""
        with self._changed:
            if is_done():
                return
            if self._reader is not None:
                self._changed.wait(_left(deadline))
                return
            self._reader = threading.get_ident()
            sleep = self._asleep()
            alarm = sleep.__enter__()
            reads = [alarm]
        try:
            channel = self.fileno()
            if channel >= 0:
                reads.append(channel)
            if not self.draining:
                reads.append(self._bell.fileno())
            _poll(reads, [channel] if channel >= 0 and self._session.out else [], _left(deadline, alarm))
        finally:
            with self._changed:
                sleep.__exit__(None, None, None)
                self._reader = None
                self._move()

    def _deliver(self) -> bool:
        """Calls the callbacks for what came. In order, and never two at once."""
        if not self._session.events or not self._delivering.acquire(blocking=False):
            return False
        try:
            any_ = False
            while True:
                with self._changed:
                    if not self._session.events:
                        return any_
                    event = self._session.events.popleft()
                any_ = True
                self._deliver_one(event)
        finally:
            self._delivering.release()

    def _deliver_one(self, event: _Event) -> None:
        if event.kind == "message":
            message = self._begin_message(event)
            if message is not None and self._on_message is not None:
                try:
                    self._on_message(message)
                except Exception:
                    logging.getLogger("handover").exception("the handler of a message failed")
                    message.refuse("failed", "its handler failed")
                finally:
                    message._close_fds()
        elif event.kind == "drain" and self._session.drain is not None:
            self._drain_now(self._session.drain)
        elif event.kind == "removed" and self._on_removed is not None:
            _guard(self._on_removed, event.line["name"])
        elif event.kind == "lost" and self._on_lost is not None:
            _guard(self._on_lost, self._session.lost)

    def _queue(self, raw: bytes, may_leave_out: bool = False) -> bool:
        with self._changed:
            if may_leave_out:
                taken = self._session.write_if_room(raw)
                if self._channel is not None and self._session.out:
                    _flush(self._channel, self._session)
                    if self._session.out:
                        self._settle()      # whoever waits for the channel now waits to write, too
                return taken
            self._session.write(raw)
            self._flush_fully(None)
            return True

    def _flush_fully(self, deadline: Optional[float]) -> None:
        """Writes all, and reads meanwhile: handover does not read from a worker that does not take its answers."""
        while self._channel is not None and self._session.open and not _flush(self._channel, self._session):
            if deadline is not None and time.monotonic() >= deadline:
                return
            # 50 ms: ETOOMANYREFS ends without an event.
            ready = _poll([self._channel.fileno()], [self._channel.fileno()], 0.05 if self._session.out[0][1] else _left(deadline))
            if ready:
                _fill(self._channel, self._session)
        self._settle()

    def _answer(self, question: int, raw: bytes, fds: Sequence[HasFd]) -> None:
        copies = _copies(fds)
        with self._changed:
            self._session.write_answer(question, raw, copies)
            self._flush_fully(None)

    def _ask(self, answer: str, raw: bytes, fds: Sequence[HasFd]) -> Any:
        with self._changed:
            id_ = self._start_question(answer, raw, fds)
            self._flush_fully(None)
        try:
            while True:
                with self._changed:
                    event = self._answers.pop(id_, None)
                    if event is not None:
                        return _answered(event.line, event.fds)
                    if not self._session.open:
                        raise Lost(self._session.lost or "handover is gone")
                self._turn(None, lambda: id_ in self._answers or not self._session.open)
        finally:
            with self._changed:
                self._session.forget(id_)
                late = self._answers.pop(id_, None)
                if late is not None:
                    _close_all(late.fds)

    def _after_fork(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._delivering = threading.RLock()
        self._reader = None
        self._pump = None
        self._sleepers, self._spare = [], []
        super()._after_fork()


def _socket_pair() -> Tuple[socket.socket, socket.socket]:
    """For waking a thread; neither end blocks."""
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


def _left(deadline: Optional[float], alarm: int = 0) -> Optional[float]:
    """Seconds until the deadline; a short moment where no alarm can wake the thread."""
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    return left if alarm >= 0 else min(0.05, 0.05 if left is None else left)


# --- asyncio -------------------------------------------------------------------------------------------------------------


async def connect_async(*, drain: bool = True, ping: bool = True, messages: bool = True) -> "AsyncWorker":
    """As ``connect``, for asyncio. The running loop turns the channel, so a loop that hangs is found out."""
    worker = AsyncWorker(_channel_from_environment(), _capabilities(drain, ping, messages))
    await worker._open()
    return worker


async def close(*servers: "asyncio.AbstractServer") -> None:
    """Closes servers of asyncio without losing what they have accepted; those connections go on.

    ``server.close()`` alone drops, without a word, what was accepted in the same turn of the loop: it begins in the next one, and
    finds its server gone (``Server._attach`` in asyncio/base_events.py). In loops that cannot leave a socket alone, it is that.
    """
    loop = asyncio.get_running_loop()
    for server in servers:
        for listener in getattr(server, "sockets", ()):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_reader(listener.fileno())
    await asyncio.sleep(0)
    for server in servers:
        server.close()


class AsyncWorker(_Common):
    """A worker in an asyncio loop; from ``connect_async``. To be used in that loop; what is no coroutine, also from other threads."""

    def __init__(self, channel: Optional[socket.socket], capabilities: Sequence[str]) -> None:
        super().__init__(channel, capabilities)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._waiting: Dict[int, "asyncio.Future[Any]"] = {}
        self._tasks: Set["asyncio.Future[Any]"] = set()
        self._drained: "asyncio.Future[Drain]" = self._loop.create_future()
        self._opened: "asyncio.Future[None]" = self._loop.create_future()
        self._room = asyncio.Event()
        self._room.set()
        self._writing = False

    async def wait_for_drain(self) -> Drain:
        """Waits until it is time to finish, and says why."""
        return await asyncio.shield(self._drained)

    def drain_on(self, *signals: int) -> None:
        """Treats these signals as a request to finish, too. From the main thread."""
        for number in signals:
            self._loop.add_signal_handler(number, self._drain_now, Drain(f"signal {signal.Signals(number).name}", None))

    async def listener(self, name: str, default: Optional[str] = None) -> socket.socket:
        """As ``Worker.listener``. The socket is nonblocking, as asyncio wants it."""
        return self._only(name, await self.listeners(name, default))

    async def listeners(self, name: str, default: Optional[str] = None) -> List[socket.socket]:
        """As ``Worker.listeners``."""
        sockets = self._inherited.take(name)
        if not sockets:
            sockets = (await self.listen(name)).sockets if self.can("listen") else self._local(name, default)
        for one in sockets:
            one.setblocking(False)
        return sockets

    async def listen(self, name: str) -> Grant:
        """As ``Worker.listen``."""
        self._require("listen")
        grant = await self._ask("grant", _encode(self._question_for(name)), ())
        assert isinstance(grant, Grant)
        return grant

    async def send(self, to: To, data: Any) -> None:
        """As ``Worker.send``. Waits, without holding up the loop, while more than 1 MiB is unsent."""
        if self.can("messages"):
            self._queue(_message_line(to, data))
            await self._room.wait()

    async def deliver(self, to: To, data: Any, fds: Sequence[HasFd] = ()) -> Sent:
        """As ``Worker.deliver``."""
        self._require("messages")
        sent = await self._ask("sent", _message_line(to, data), fds)
        assert isinstance(sent, Sent)
        return sent

    async def ask(self, to: To, data: Any, timeout_ms: Optional[int] = None, fds: Sequence[HasFd] = ()) -> Any:
        """As ``Worker.ask``."""
        return _data_of(await self.ask_fully(to, data, timeout_ms, fds))

    async def ask_fully(self, to: To, data: Any, timeout_ms: Optional[int] = None, fds: Sequence[HasFd] = ()) -> Reply:
        """As ``Worker.ask_fully``."""
        self._require("messages")
        reply = await self._ask("reply", _message_line(to, data, True, timeout_ms), fds)
        assert isinstance(reply, Reply)
        return reply

    async def close(self) -> None:
        """As ``Worker.close``."""
        deadline = self._loop.time() + 1.0
        while not self._session.is_done and self._loop.time() < deadline:
            await asyncio.sleep(0.005)
        self._session.close()
        self._session.events.clear()
        self._pump()

    async def __aenter__(self) -> "AsyncWorker":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    # Inside.

    async def _open(self) -> None:
        if self._channel is None:
            return
        self._loop.add_reader(self._channel.fileno(), self._readable)
        try:
            await asyncio.wait_for(asyncio.shield(self._opened), HELLO_SECONDS)
        except asyncio.TimeoutError:
            self._session.close()
            self._pump()

    def _readable(self) -> None:
        if self._channel is not None:
            _fill(self._channel, self._session)
            self._pump()

    def _writable(self) -> None:
        self._pump()

    def _pump(self) -> None:
        """Writes what goes, tells what came, and keeps the loop's interest in the socket right."""
        opening = self._session.capabilities is None
        if self._channel is not None:
            if self._session.open:
                _flush(self._channel, self._session)
            self._watch()
        if not (opening and self._session.open) and not self._opened.done():
            self._opened.set_result(None)
            if opening:                     # it closed without a word: there never was a channel
                self._session.events.clear()
                self._session.drain = None
        if self._session.out_bytes <= QUEUE_SOFT:
            self._room.set()
        while self._session.events:
            self._deliver(self._session.events.popleft())
        if not self._session.open:
            waiting, self._waiting = self._waiting, {}
            for future in waiting.values():
                if not future.done():
                    future.set_exception(Lost(self._session.lost or "handover is gone"))

    def _watch(self) -> None:
        channel = self._channel
        if channel is None:
            return
        if not self._session.open:
            self._loop.remove_reader(channel.fileno())
            self._loop.remove_writer(channel.fileno())
            channel.close()
            self._channel = None
        elif bool(self._session.out) != self._writing:
            self._writing = bool(self._session.out)
            if self._writing:
                self._loop.add_writer(channel.fileno(), self._writable)
            else:
                self._loop.remove_writer(channel.fileno())

    def _deliver(self, event: _Event) -> None:
        if event.kind == "answer":
            future = self._waiting.pop(event.line["re"], None)
            if future is None or future.done():
                _close_all(event.fds)
                return
            try:
                future.set_result(_answered(event.line, event.fds))
            except Exception as error:
                future.set_exception(error)
        elif event.kind == "message":
            self._deliver_message(event)
        elif event.kind == "drain" and self._session.drain is not None:
            self._drain_now(self._session.drain)
        elif event.kind == "removed" and self._on_removed is not None:
            _guard(self._on_removed, event.line["name"])
        elif event.kind == "lost" and self._on_lost is not None:
            _guard(self._on_lost, self._session.lost)

    def _deliver_message(self, event: _Event) -> None:
        message = self._begin_message(event)
        if message is None or self._on_message is None:
            return
        try:
            result = self._on_message(message)
        except Exception:
            self._failed(message)
            return
        if not inspect.isawaitable(result):
            message._close_fds()
            return
        task = asyncio.ensure_future(self._finish(message, result))
        self._tasks.add(task)               # the loop holds tasks only weakly
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, message: Message, result: Awaitable[Any]) -> None:
        try:
            await result
            message._close_fds()
        except Exception:
            self._failed(message)

    @staticmethod
    def _failed(message: Message) -> None:
        logging.getLogger("handover").exception("the handler of a message failed")
        message._close_fds()
        message.refuse("failed", "its handler failed")

    def _drain_now(self, drain: Drain) -> None:
        super()._drain_now(drain)
        if not self._drained.done():
            self._drained.set_result(drain)

    def _in_loop(self, call: Callable[[], None]) -> bool:
        if threading.get_ident() == self._thread:
            call()
            return True
        try:
            self._loop.call_soon_threadsafe(call)
            return True
        except RuntimeError:                # the loop is closed
            return False

    def _queue(self, raw: bytes, may_leave_out: bool = False) -> bool:
        def queue() -> None:
            if may_leave_out:
                self._session.write_if_room(raw)
            else:
                self._session.write(raw)
            self._write()

        return self._in_loop(queue)

    def _write(self) -> None:
        if self._channel is not None and self._session.open:
            _flush(self._channel, self._session)
            self._watch()
        if self._session.out_bytes > QUEUE_SOFT:
            self._room.clear()

    def _answer(self, question: int, raw: bytes, fds: Sequence[HasFd]) -> None:
        copies = _copies(fds)

        def answer() -> None:
            self._session.write_answer(question, raw, copies)
            self._write()

        if not self._in_loop(answer):
            _close_all(copies)

    async def _ask(self, answer: str, raw: bytes, fds: Sequence[HasFd]) -> Any:
        id_ = self._start_question(answer, raw, fds)
        future: "asyncio.Future[Any]" = self._loop.create_future()
        self._waiting[id_] = future
        self._write()
        try:
            return await future
        finally:
            self._waiting.pop(id_, None)
            self._session.forget(id_)


# --- Logs ----------------------------------------------------------------------------------------------------------------

_RECORD_MEMBERS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogHandler(logging.Handler):
    """Sends records of ``logging`` to handover, with level, the logger's name as target, and ``extra`` as fields.

    ::

        logging.basicConfig(level=logging.INFO, handlers=[handover.LogHandler(worker)])
        logging.getLogger("app.db").warning("slow query", extra={"ms": 1200, "table": "users"})

    A traceback becomes the field ``exception``. Without handover, records go to standard error as ``format`` makes them.
    """

    def __init__(self, worker: _Common, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a record, as ``logging`` calls it."""
        try:
            fields = {name: value for name, value in vars(record).items() if name not in _RECORD_MEMBERS}
            if record.exc_info and record.exc_info[0] is not None:
                fields["exception"] = (self.formatter or logging.Formatter()).formatException(record.exc_info)
            if record.stack_info:
                fields["stack"] = record.stack_info
            if not self._worker.log(_level_of(record.levelno), record.getMessage(), record.name, fields):
                print(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


def _level_of(number: int) -> str:
    for least, name in ((logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info"), (logging.DEBUG, "debug")):
        if number >= least:
            return name
    return "trace"
