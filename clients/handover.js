'use strict';

// The client for Node: what docs/protocol.md calls the channel, for a worker written in Node 18 or later.
//
// One file without dependencies: copy it beside your program (as handover.cjs, where package.json says "type": "module").
//
//     const handover = require('./handover');            // or: import handover from './handover.js'
//     const server = http.createServer(app);
//     await handover.listen(server, 'http', 8080);       // handover's socket "http"; port 8080 where there is no handover
//     handover.graceful(server);                         // asked to drain (or SIGTERM): finish, lose nothing
//     handover.ready();
//
// Node can take fds only over its own channel, so a pool that wants sockets on request or connections from other workers has
// `channel = "node"`. With the usual `channel = "handover"` everything works that needs no fd on the channel. Without handover
// every call is harmless: listen() binds the address given as its third argument, the others do nothing.

const { spawnSync } = require('node:child_process');
const { EventEmitter } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');

const VERSION = 1;
const CLIENT = 'handover-node 0.1.0';
const LINE_BYTES_MAX = 65536;
const MESSAGE_BYTES_MAX = 1048576;
const DATA_BYTES_MAX = 1000000;
const NESTING_MAX = 64;
const TEXT_BYTES_MAX = 1024; // of `status` and of the reason of `replace`
const TARGET_BYTES_MAX = 256;
const FIELDS_MAX = 64;
const FDS_MAX = 64; // of a line
const HELD_MAX = 256; // messages that wait for the program's first listener for them
const TIMER_MS_MAX = 2 ** 31 - 1; // Node's timers take no more
const ANSWER_MS = 30000; // what handover gives a question, if nothing else is said
const ANSWER_MARGIN_MS = 5000; // handover's own `timeout` should come before ours

/** Members of what handover says: a name that ends with ? may be missing. */
const LINES = {
  hello: {
    version: 'number', versions: 'range', capabilities: 'words', name: 'string', pool: 'string', slot: 'number',
    generation: 'number', worker: 'number',
  },
  drain: { reason: 'string', 'deadline_ms?': 'number' },
  ping: { id: 'number' },
  grant: { re: 'number', name: 'string', address: 'string', 'id?': 'number', 'part?': 'number', 'parts?': 'number' },
  listener_removed: { name: 'string' },
  message: { from: 'peer', data: 'any', 'id?': 'number', 'reply?': 'boolean' },
  reply: { re: 'number', from: 'peer', data: 'any', 'id?': 'number' },
  sent: { re: 'number', receivers: 'number', refused: 'notReached' },
  ack: { re: 'number' },
  refused: { 're?': 'number', error: 'string', 'reason?': 'string' },
};

const isNumber = (value) => Number.isSafeInteger(value) && value >= 0;
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Where numbers stand in a member of this kind. */
const ODD = { number: [''], fds: [''], range: [''], peer: ['.slot', '.worker'] };

const KINDS = {
  any: () => true,
  string: (value) => typeof value === 'string',
  number: isNumber,
  fds: (value) => isNumber(value) && value <= FDS_MAX,
  boolean: (value) => typeof value === 'boolean',
  notReached: (value) => Array.isArray(value) && value.every((one) => isObject(one) && isNumber(one.worker) && typeof one.error === 'string'),
  words: (value) => Array.isArray(value) && value.every((word) => typeof word === 'string'),
  range: (value) => Array.isArray(value) && value.length === 2 && value.every(isNumber),
  peer: (value) =>
    value === 'handover' ||
    (isObject(value) && typeof value.pool === 'string' && isNumber(value.slot) && isNumber(value.worker)),
};

/**
 * What is wrong with a line, for people; undefined if nothing is. Unknown types have no members but "fds".
 * `odd` has the members whose numbers are not written with digits alone, which JSON.parse does not tell.
 */
function fault(line, odd) {
  if (!isObject(line)) return 'a line is not an object';
  if (typeof line.type !== 'string') return 'a line has no "type"';
  const members = Object.hasOwn(LINES, line.type) ? LINES[line.type] : undefined;
  for (const [key, kind] of Object.entries({ ...members, 'fds?': 'fds' })) {
    const name = key.replace('?', '');
    if (!Object.hasOwn(line, name)) {
      if (key === name) return `"${line.type}" without "${name}"`;
    } else if (!KINDS[kind](line[name]) || (ODD[kind] ?? []).some((path) => odd?.has(name + path))) {
      return `"${line.type}" with a wrong "${name}"`;
    } else if (name === 'versions' && line.type === 'hello' && !isSpoken(line)) {
      return undefined; // of another version: what else it has may be anything
    }
  }
  const carries = members === undefined || ['grant', 'message', 'reply'].includes(line.type);
  if (line.fds > 0 && !carries) return `"${line.type}" with fds`;
  if (line.type === 'message' && line.reply === true && line.id === undefined) return 'a question without "id"';
  return undefined;
}

/** Whether there is a version that both speak. */
function isSpoken(hello) {
  return hello.versions[0] <= VERSION && hello.version >= VERSION;
}

/** How deep objects and arrays nest in a JSON text, and the members (`id`, `from.slot`) whose numbers are no digits alone: `1.0`. */
function survey(text) {
  const odd = new Set();
  const path = []; // names of the members that lead here; undefined in an array
  let deepest = 0;
  let name;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '"') {
      const from = at;
      for (at++; text[at] !== '"' && at < text.length; at++) if (text[at] === '\\') at++;
      if (path.length > 2) continue;
      let next = at + 1;
      while (' \t\r'.includes(text[next] || '-')) next++;
      if (text[next] === ':') name = JSON.parse(text.slice(from, at + 1));
    } else if (char === '{' || char === '[') {
      path.push(name);
      if (char === '[') name = undefined;
      deepest = Math.max(deepest, path.length);
    } else if (char === '}' || char === ']') {
      name = path.pop();
    } else if (path.length <= 2 && (char === '-' || (char >= '0' && char <= '9'))) {
      const from = at;
      while (/[-+.eE0-9]/.test(text[at + 1] ?? '')) at++;
      const member = [path[1], name].filter((part) => part !== undefined).join('.');
      if (/^\d+$/.test(text.slice(from, at + 1))) odd.delete(member);
      else odd.add(member);
    }
  }
  return { depth: deepest, odd };
}

const nesting = (text) => survey(text).depth;

/** JSON without escapes of lone surrogates, which strict parsers refuse; undefined becomes null. */
function toJson(value) {
  const text = JSON.stringify(value) ?? 'null';
  if (!text.includes('\\ud')) return text;
  return text.replace(/\\(u[dD][89a-fA-F][0-9a-fA-F]{2}|.)/g, (all, escape) => (escape.length > 1 ? '\\ufffd' : all));
}

/** The text, cut to so many bytes of UTF-8 at the border of a character. */
function cut(text, bytes) {
  const buffer = Buffer.from(String(text).toWellFormed?.() ?? String(text));
  if (buffer.length <= bytes) return buffer.toString();
  let end = bytes;
  while (end > 0 && (buffer[end] & 0xc0) === 0x80) end--;
  return buffer.toString('utf8', 0, end);
}

/** handover or another worker said no, or the channel is gone. `code` is one of the protocol's words: `not_allowed`, `gone`, … */
class HandoverError extends Error {
  constructor(code, reason) {
    super(reason ? `${code}: ${reason}` : code);
    this.name = 'HandoverError';
    this.code = code;
    this.reason = reason ?? '';
  }
}

// ---- two ways to carry lines -----------------------------------------------------------------------------------------

/** The channel of the pool's `channel = "handover"`: lines of JSON on a Unix stream socket, here without fds. */
class NativeCarrier {
  capabilities = ['drain', 'ping', 'messages']; // no `fds`: Node reads with read(2), and the kernel closes what comes along
  carriesFds = false;
  #socket;
  #chunks = [];
  #bytes = 0;
  #mute = false;
  #utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

  /** The channel that HANDOVER_CHANNEL names; undefined where that fd is no Unix stream socket (any more). */
  static open(number) {
    if (!/^\d{1,9}$/.test(number)) return undefined;
    try {
      if (!fs.fstatSync(Number(number)).isSocket()) return undefined;
      const socket = new net.Socket({ fd: Number(number), manualStart: true });
      // A TCP socket that took the number is somebody else's: it is left open, and alone.
      return socket._handle?.constructor.name === 'Pipe' ? new NativeCarrier(socket) : undefined;
    } catch {
      return undefined;
    }
  }

  constructor(socket) {
    this.#socket = socket;
    socket.unref();
  }

  start({ onLine, onFault, onEnd }) {
    const socket = this.#socket;
    socket.on('data', (chunk) => {
      try {
        this.#take(chunk, onLine);
      } catch (error) {
        onFault(error.message);
      }
    });
    const states = [socket._readableState, socket._writableState];
    for (const state of states) state.autoDestroy = false;
    socket.on('error', (error) => {
      if (error.syscall !== 'write' || this.#mute) return void socket.destroy();
      // handover closed its end, and what it said before may still be there: that is read, to the end. Node would drop it.
      this.#mute = true;
      for (const state of states) state.errored = null;
      socket.resume();
      return void socket.read(0);
    });
    socket.on('end', () => socket.destroy());
    socket.on('close', onEnd);
    socket.resume();
  }

  #take(chunk, onLine) {
    let from = 0;
    for (;;) {
      const at = chunk.indexOf(10, from);
      const rest = chunk.subarray(from, at < 0 ? chunk.length : at);
      this.#bytes += rest.length;
      if (this.#bytes + 1 > MESSAGE_BYTES_MAX) throw new Error('a line is too long');
      this.#chunks.push(rest);
      if (at < 0) return;
      const line = this.#chunks.length === 1 ? rest : Buffer.concat(this.#chunks);
      this.#chunks = [];
      this.#bytes = 0;
      from = at + 1;
      if (this.#socket.destroyed) return;
      const { line: parsed, odd } = this.#parse(line);
      onLine(parsed, undefined, odd);
    }
  }

  #parse(bytes) {
    let text;
    let line;
    try {
      text = this.#utf8.decode(bytes);
    } catch {
      throw new Error('a line is not UTF-8');
    }
    try {
      line = JSON.parse(text);
    } catch {
      throw new Error('a line is not JSON');
    }
    const { depth, odd } = survey(text);
    if (depth > NESTING_MAX) throw new Error('a line is nested too deep');
    const long = line?.type === 'message' || line?.type === 'reply';
    if (!long && bytes.length + 1 > LINE_BYTES_MAX) throw new Error('a line is too long');
    return { line, odd };
  }

  send(text) {
    if (!this.#socket.destroyed && !this.#mute) this.#socket.write(`${text}\n`);
  }

  end() {
    this.#socket.destroySoon();
  }

  ref(on) {
    if (on) this.#socket.ref();
    else this.#socket.unref();
  }
}

/** Node's own channel, of the pool's `channel = "node"`: lines are messages `{handover: line}`, an fd comes as a handle. */
class NodeCarrier {
  capabilities = ['drain', 'ping', 'listen', 'messages', 'fds'];
  carriesFds = true;
  #listener;
  #strays = []; // messages of others that came when only this client listened
  #referenced = false;

  static open() {
    const { env } = process;
    const pid = String(process.pid);
    if (typeof process.send !== 'function' || !process.connected || !env.HANDOVER_WORKER) return undefined;
    // A program that a worker forked has the worker's environment, and a channel that is not handover's.
    if (require('node:cluster').isWorker || (env.HANDOVER_NODE_PID ?? pid) !== pid) return undefined;
    env.HANDOVER_NODE_PID = pid;
    return new NodeCarrier();
  }

  start({ onLine, onEnd }) {
    this.#listener = (message, handle) => {
      if (isObject(message) && isObject(message.handover) && Object.keys(message).length === 1) {
        onLine(message.handover, handle);
      } else if (process.listenerCount('message') === 1) {
        if (this.#strays.length < HELD_MAX) this.#strays.push([message, handle]);
      }
    };
    process.on('message', this.#listener);
    process.on('disconnect', onEnd);
    // Both listeners count as a wish to live as long as the channel does, which is for the program to say, not for this client.
    this.#count(false);
    this.#count(false);
    process.on('newListener', (name) => {
      if (name === 'message') process.nextTick(() => this.#deliverStrays());
    });
  }

  #deliverStrays() {
    if (process.listenerCount('message') < 2) return;
    for (const [message, handle] of this.#strays.splice(0)) {
      for (const listener of process.listeners('message')) {
        if (listener !== this.#listener) listener.call(process, message, handle);
      }
    }
  }

  #count(on) {
    const { channel } = process;
    if (!channel) return;
    if (typeof channel.refCounted !== 'function') on ? channel.ref() : channel.unref();
    else if (on) channel.refCounted();
    else channel.unrefCounted();
  }

  /** `written` is called when the line is on its way; behind another handle it waits until Node has the acknowledgement of that. */
  send(text, handle, options, written = () => {}) {
    if (!process.connected) return;
    process.send({ handover: JSON.parse(text) }, handle, options, written); // with a callback, an error is not thrown
  }

  end() {
    if (process.connected) process.disconnect();
  }

  ref(on) {
    if (on !== this.#referenced) this.#count(on);
    this.#referenced = on;
  }
}

// ---- sockets that the process was started with ------------------------------------------------------------------------

/** Sockets passed as systemd passes them: a list of `{fd, name}`. */
function inheritedSockets(env) {
  const count = /^\d{1,4}$/.test(env.LISTEN_FDS ?? '') ? Number(env.LISTEN_FDS) : 0;
  if (env.LISTEN_PID && env.LISTEN_PID !== String(process.pid)) return [];
  const names = env.LISTEN_FDNAMES ? env.LISTEN_FDNAMES.split(':') : [];
  return Array.from({ length: count }, (_, at) => ({ fd: 3 + at, name: names[at] ?? 'unknown' }));
}

const isAddress = (name) => /^(tcp|udp|unix|unix-dgram|unix-seqpacket|vsock):/.test(name);

/** What net.Server.listen takes for an address written as in the configuration. */
function localOptions(address) {
  const tcp = /^tcp:\/\/(?:\[([^\]]+)\]|([^:/]+)):(\d+)$/.exec(address);
  if (tcp) return { host: tcp[1] ?? tcp[2], port: Number(tcp[3]) };
  if (address.startsWith('unix:@')) return { path: `\0${address.slice(6)}` };
  if (address.startsWith('unix:///')) return { path: address.slice(7) };
  throw new HandoverError('failed', `${address} cannot be bound by Node itself`);
}

/** Listens, and settles when that is done or failed. */
function listening(server, options) {
  return new Promise((resolve, reject) => {
    const done = (error) => {
      server.removeListener('listening', done);
      server.removeListener('error', done);
      if (error) reject(error);
      else resolve();
    };
    server.once('listening', done).once('error', done);
    if (typeof server.bind === 'function') server.bind(options);
    else server.listen(options);
  });
}

/** Connections of a further socket are the server's, too; the further one closes when `owner` does. */
function forward(extra, server) {
  extra.on('connection', (socket) => server.emit('connection', socket));
  server.once('close', () => extra.close());
}

// ---- ending a server without losing anything ---------------------------------------------------------------------------

/** Finishes one server: it takes nothing new, answers what it has with `Connection: close`, and cuts what is left at the end. */
class Drainer {
  #server;
  #sockets = new Set();
  #sessions = new Set();
  #responses = new Set();
  #further;
  #closing = false;
  #closeIdle; // once idle connections have had their time

  constructor(server, further) {
    this.#server = server;
    this.#further = further;
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.on('session', (session) => {
      this.#sessions.add(session);
      session.once('close', () => this.#sessions.delete(session));
      if (this.#closing) session.close();
    });
    server.prependListener('request', (_request, response) => this.#answer(response));
  }

  #answer(response) {
    if (response.stream) return; // HTTP/2 says it for the whole session
    this.#responses.add(response);
    if (this.#closing) this.#last(response);
    response.once('close', () => {
      this.#responses.delete(response);
      // Its header may have gone out before the drain began, without `Connection: close`.
      if (this.#closing && response.shouldKeepAlive) setImmediate(() => this.#closeIdle?.());
    });
  }

  #last(response) {
    if (!response.headersSent) response.setHeader('Connection', 'close');
  }

  /** Resolves when the last connection is closed. */
  run(idleMs, timeoutMs) {
    this.#closing = true;
    const server = this.#server;
    return new Promise((resolve) => {
      const timers = [
        setTimeout(() => this.#idleEnds(), idleMs),
        setTimeout(() => this.cut(), timeoutMs),
      ];
      const done = () => {
        timers.forEach(clearTimeout);
        resolve();
      };
      for (const response of this.#responses) this.#last(response);
      for (const session of this.#sessions) session.close();
      for (const extra of this.#further()) extra.close();
      // http.Server.close would cut idle connections at once, across requests that are under way on them.
      if (server.listening) net.Server.prototype.close.call(server, () => this.#whenEmpty(done));
      else this.#whenEmpty(done);
    });
  }

  #whenEmpty(done) {
    if (this.#sockets.size === 0) return done();
    for (const socket of this.#sockets) socket.once('close', () => this.#sockets.size === 0 && done());
    return undefined;
  }

  #idleEnds() {
    const close = () => {
      this.#server.closeIdleConnections?.();
      // One that never sent a byte does not count as idle there: a browser opens such in advance.
      for (const socket of this.#sockets) if (socket.bytesRead === 0 && this.#isHttp()) socket.destroy();
    };
    this.#closeIdle = close;
    close();
  }

  #isHttp() {
    return typeof this.#server.closeIdleConnections === 'function';
  }

  /** The end: what is still open is cut. */
  cut() {
    for (const session of this.#sessions) session.destroy();
    for (const socket of this.#sockets) socket.destroy();
  }
}

// ---- the client ---------------------------------------------------------------------------------------------------------

/** A message of another worker or of handover; see handover.d.ts. */
class Message {
  #client;
  #id;

  constructor(client, line, handle) {
    this.#client = client;
    this.#id = line.reply === true ? line.id : undefined;
    this.from = line.from;
    this.data = line.data;
    this.handle = handle;
  }

  /** Whether the sender waits for an answer. */
  get wantsReply() {
    return this.#id !== undefined;
  }

  reply(data, options = {}) {
    return this.#answer((id) => this.#client._reply(id, data, options.handle));
  }

  refuse(error, reason) {
    return this.#answer((id) => this.#client._answer({ type: 'refused', re: id, error, reason: cut(reason ?? '', TEXT_BYTES_MAX) }));
  }

  #answer(say) {
    if (this.#id === undefined) return false;
    const id = this.#id;
    say(id);
    this.#id = undefined;
    return true;
  }
}

class Handover extends EventEmitter {
  #carrier;
  #hello;
  #greeted; // settles the promise #hello
  #theirs; // handover's hello
  #farewell; // a `refused` that announced the channel's end
  #nextId = 1;
  #questions = new Map(); // id -> {resolve, reject, timer, onPart, kept}
  #owed = new Set(); // questions of handover's that have no answer yet
  #waiting = 0; // calls that wait for handover's hello
  #held = [];
  #early = []; // log lines before handover's hello
  #inherited = inheritedSockets(process.env);
  #served = new Map(); // name of a listener -> servers that listen on it
  #extras = new WeakMap(); // server -> further servers that feed it
  #drainers = new WeakMap();
  #atDrain = []; // servers stop accepting before the program hears of the drain
  #drainHeard = false; // the program asked to know of it
  #drain;
  #drained;
  #abort = new AbortController();
  #wanted = true;

  constructor(carrier) {
    super();
    const { HANDOVER_NAME, HANDOVER_POOL, HANDOVER_SLOT, HANDOVER_GENERATION, HANDOVER_WORKER } = process.env;
    const number = (text) => (text === undefined ? undefined : Number(text));
    this.name = HANDOVER_NAME;
    this.pool = HANDOVER_POOL;
    this.slot = number(HANDOVER_SLOT);
    this.generation = number(HANDOVER_GENERATION);
    this.worker = number(HANDOVER_WORKER);
    this.draining = false;
    this.deadline = undefined;
    this.#drain = new Promise((resolve) => { this.#drained = resolve; });
    this.#hello = new Promise((resolve) => { this.#greeted = resolve; });
    this.#carrier = carrier;
    if (!carrier) this.#greeted(undefined);
    else this.#start(carrier);
  }

  #start(carrier) {
    carrier.start({
      onLine: (line, handle, odd) => this.#take(line, handle, odd),
      onFault: (reason) => this.#breach(reason),
      onEnd: () => this.#ended(),
    });
    this._say({ type: 'hello', version: VERSION, capabilities: carrier.capabilities, client: CLIENT });
    for (const event of ['newListener', 'removeListener']) {
      super.on(event, (name) => {
        if (name === 'drain') this.#drainHeard = true;
        if (name === 'message') process.nextTick(() => this.#listenersChanged());
      });
    }
  }

  #listenersChanged() {
    this.#hold();
    if (this.listenerCount('message') === 0) return;
    for (const message of this.#held.splice(0)) this.emit('message', message);
  }

  /** Questions under way and a listener for messages keep the process alive, until it drains. */
  #hold() {
    const wanted = this.#waiting > 0 || this.#questions.size > 0 || (this.listenerCount('message') > 0 && !this.draining);
    this.#carrier?.ref(wanted && this.#wanted);
  }

  // -- what the program reads

  get active() {
    return this.#carrier !== undefined;
  }

  get capabilities() {
    return this.#theirs?.capabilities ?? [];
  }

  get inherited() {
    return this.#inherited.map((socket) => ({ ...socket }));
  }

  get drain() {
    this.#drainHeard = true;
    return this.#drain;
  }

  get signal() {
    this.#drainHeard = true;
    return this.#abort.signal;
  }

  // -- what the program says

  ready() {
    if (this.active) this._say({ type: 'ready' });
    else notify('READY=1');
  }

  status(text) {
    const short = cut(text, TEXT_BYTES_MAX);
    if (this.active) this._say({ type: 'status', text: short });
    else notify(`STATUS=${short.replace(/\n/g, ' ')}`);
  }

  heartbeat() {
    this._say({ type: 'heartbeat' });
  }

  extendTimeout(ms) {
    const whole = Math.min(Math.max(0, Math.ceil(Number(ms)) || 0), Number.MAX_SAFE_INTEGER);
    if (this.active) this._say({ type: 'extend_timeout', ms: whole });
    else notify(`EXTEND_TIMEOUT_USEC=${whole * 1000}`);
  }

  stopping() {
    if (this.active) this._say({ type: 'stopping' });
    else notify('STOPPING=1');
  }

  replace(reason) {
    this._say(reason === undefined ? { type: 'replace' } : { type: 'replace', reason: cut(reason, TEXT_BYTES_MAX) });
  }

  watchdog() {
    const { WATCHDOG_USEC, WATCHDOG_PID } = process.env;
    if (!this.active || !/^\d+$/.test(WATCHDOG_USEC ?? '') || Number(WATCHDOG_USEC) === 0) return () => {};
    if (WATCHDOG_PID && WATCHDOG_PID !== String(process.pid)) return () => {};
    const timer = setInterval(() => this.heartbeat(), Math.max(1, Number(WATCHDOG_USEC) / 2000)).unref();
    this.heartbeat();
    return () => clearInterval(timer);
  }

  log(level, message, fields = {}, target = undefined) {
    const line = { type: 'log', level, message: String(message) };
    if (target !== undefined) line.target = cut(target, TARGET_BYTES_MAX);
    const kept = Object.entries(fields).filter(([, value]) => value !== undefined).slice(0, FIELDS_MAX);
    if (kept.length > 0) line.fields = Object.fromEntries(kept.map(([key, value]) => [key, fieldValue(value)]));
    if (!['error', 'warn', 'info', 'debug', 'trace'].includes(level)) throw new TypeError(`no level ${level}`);
    if (!this.active || (this.#theirs && !this.#theirs.capabilities.includes('log'))) return printLog(line, this.pool);
    if (this.#theirs) return this._say(fit(line));
    // Whether handover takes logs is known when its first line is read.
    if (this.#early.push(line) === 1) this.#logEarly();
    return undefined;
  }

  #logEarly() {
    const flush = () => {
      process.removeListener('exit', flush);
      const takes = this.active && this.#theirs?.capabilities.includes('log');
      for (const line of this.#early.splice(0)) takes ? this._say(fit(line)) : printLog(line, this.pool);
    };
    process.once('exit', flush);
    this.#hello.then(flush);
  }

  async listen(server, name, fallback) {
    this.#drainer(server);
    const options = typeof fallback === 'object' ? fallback : { port: fallback };
    const inherited = this.#takeInherited(name);
    if (inherited.length > 0) return this.#listenInherited(server, name, inherited, options);
    if (this.worker !== undefined) return this.#listenGranted(server, name, options);
    if (isAddress(name)) await listening(server, { ...options, ...localOptions(name) });
    else if (fallback === undefined) throw new HandoverError('failed', `no socket "${name}" was passed, and no address to bind was given`);
    else await listening(server, options);
    return { name, address: server.address(), sockets: 1, origin: 'bound' };
  }

  /** Knows from its beginning what a server has in hand; undefined for datagrams. */
  #drainer(server) {
    if (typeof server.listen !== 'function') return undefined;
    if (!this.#drainers.has(server)) this.#drainers.set(server, new Drainer(server, () => this.#extras.get(server) ?? []));
    return this.#drainers.get(server);
  }

  #takeInherited(name) {
    const all = this.#inherited;
    let taken = all.filter((socket) => socket.name === name);
    // systemd names a socket after its unit where the unit says nothing: no name that a program could ask for.
    if (taken.length === 0 && all.length === 1 && this.worker === undefined && /^unknown$|\.socket$/.test(all[0].name)) taken = all;
    this.#inherited = all.filter((socket) => !taken.includes(socket));
    return taken;
  }

  async #listenInherited(server, name, sockets, { backlog }) {
    await listening(server, { fd: sockets[0].fd, backlog });
    for (const { fd } of sockets.slice(1)) {
      const extra = net.createServer({ pauseOnConnect: server.pauseOnConnect });
      this.#feed(extra, server);
      await listening(extra, { fd, backlog });
    }
    this.#serve(name, server);
    return { name, address: server.address(), sockets: sockets.length, origin: 'inherited' };
  }

  async #listenGranted(server, name, { backlog }) {
    await this.#offered('listen', name);
    if (typeof server.listen !== 'function') throw new HandoverError('unsupported', 'a datagram socket cannot be taken from the channel');
    const parts = [];
    const onPart = (granted) => {
      // At once, before the loop turns: a connection that came in between would be nobody's.
      if (!(granted instanceof net.Server)) return granted?.close?.();
      parts.push(granted);
      if (parts.length > 1) return this.#feed(granted, server);
      server.listen(granted, backlog);
      granted._handle = null; // it is the other's now
      return undefined;
    };
    const grant = await this.#ask({ type: 'listen', [isAddress(name) ? 'address' : 'name']: name }, { onPart });
    if (parts.length === 0) throw new HandoverError('unsupported', `${name} is no stream socket`);
    this.#serve(grant.name, server);
    return { name: grant.name, address: grant.address, sockets: parts.length, origin: 'channel' };
  }

  #feed(extra, server) {
    forward(extra, server);
    this.#extras.set(server, [...(this.#extras.get(server) ?? []), extra]);
  }

  #serve(name, server) {
    this.#served.set(name, [...(this.#served.get(name) ?? []), server]);
  }

  #stopAccepting(server) {
    for (const extra of this.#extras.get(server) ?? []) extra.close();
    if (server.listening === true) net.Server.prototype.close.call(server);
    else if (typeof server.bind === 'function') server.close();
  }

  async #offered(capability, what) {
    this.#waiting++;
    this.#hold();
    const hello = await this.#hello;
    this.#waiting--;
    this.#hold();
    if (!hello || !this.active) throw new HandoverError('gone', `${what}: there is no channel`);
    if (!this.#carrier.capabilities.includes(capability)) {
      throw new HandoverError('unsupported', `${what}: not on this channel; hint: channel = "node" in the pool`);
    }
    if (!hello.capabilities.includes(capability)) throw new HandoverError('unsupported', `${what}: this handover has no ${capability}`);
  }

  send(to, data, options = {}) {
    return quiet(this.#send({ type: 'message', to, data }, options));
  }

  async #send(line, { confirm = true, handle, timeout = ANSWER_MS }) {
    const text = message(line); // what cannot be said is the caller's mistake, with handover and without
    if (!this.active) return { receivers: 0, refused: [] };
    await this.#offered('messages', 'a message');
    if (!handle && !confirm) return void this.#carrier?.send(text);
    const sent = await this.#ask(line, { handle, timeout });
    return { receivers: sent.receivers, refused: sent.refused };
  }

  ask(to, data, options = {}) {
    return quiet(this.#askWorker(to, data, options));
  }

  async #askWorker(to, data, { handle, timeout = ANSWER_MS }) {
    const line = { type: 'message', to, data, reply: true, timeout_ms: Math.min(Math.max(1, Math.ceil(timeout)), 3600000) };
    message(line);
    if (!this.active) throw new HandoverError('gone', 'there is no handover');
    await this.#offered('messages', 'a message');
    const { data: answer, from, handle: received } = await this.#ask(line, { handle, timeout });
    return { data: answer, from, handle: received };
  }

  /** Sends a line that wants an answer, with an id of its own; resolves with the line that answers. */
  async #ask(line, { handle, timeout = ANSWER_MS, onPart } = {}) {
    if (handle && !this.#carrier.carriesFds) throw new HandoverError('unsupported', 'Node sends handles only with channel = "node" in the pool');
    if (handle) await this.#offered('fds', 'a handle');
    const id = this.#nextId++;
    const kept = handle && lend(handle);
    const answer = new Promise((resolve, reject) => {
      const late = () => this.#settle(id, ({ reject }) => reject(new HandoverError('timeout', 'no answer')));
      const wanted = line.type === 'listen' ? 'grant' : line.reply ? 'reply' : 'sent';
      this.#questions.set(id, { wanted, resolve, reject, onPart, timer: setTimeout(late, timeout + ANSWER_MARGIN_MS) });
    });
    this.#hold();
    try {
      this._say(handle ? { ...line, id, fds: 1 } : { ...line, id }, handle);
      const given = await answer;
      kept?.given();
      return given;
    } catch (error) {
      kept?.back();
      throw error;
    }
  }

  #settle(id, how) {
    const question = this.#questions.get(id);
    if (!question) return false;
    this.#questions.delete(id);
    clearTimeout(question.timer);
    how(question);
    this.#hold();
    return true;
  }

  _reply(re, data, handle) {
    const line = { type: 'reply', re, data: data ?? null };
    message(line);
    if (!handle) return this._answer(line);
    if (!this.#carrier?.carriesFds) throw new HandoverError('unsupported', 'Node sends handles only with channel = "node" in the pool');
    const kept = lend(handle);
    const id = this.#nextId++;
    return this._answer({ ...line, id, fds: 1 }, handle, () => setImmediate(() => kept.given())); // Node acknowledges by itself
  }

  /** Writes the one answer to a question of handover's. */
  _answer(line, handle, written) {
    this.#owed.delete(line.re);
    this._say(line, handle, written);
  }

  /** Writes a line, if there is a channel. */
  _say(line, handle, written) {
    const text = line.type === 'message' || line.type === 'reply' ? message(line) : toJson(line);
    this.#carrier?.send(text, handle, handle && { keepOpen: true }, written);
  }

  graceful(server, options = {}) {
    this.#drainHeard = true;
    return this.#graceful(server, options);
  }

  #graceful(server, { timeout, idle, signals = ['SIGTERM', 'SIGINT'] }) {
    const drainer = this.#drainer(server);
    return new Promise((resolve) => {
      let running = false;
      const end = () => signals.forEach((name) => process.removeListener(name, onSignal));
      const start = () => {
        if (running) return;
        running = true;
        const given = timeout ?? (this.deadline === undefined ? 25000 : (this.deadline - Date.now()) * 0.95);
        const limit = Math.min(Math.max(0, given), TIMER_MS_MAX);
        const quietMs = idle ?? Math.min(server.keepAliveTimeout || 5000, 5000, limit / 2);
        drainer.run(quietMs, limit).then(() => {
          end();
          resolve();
        });
      };
      // The second request to end means it: handover sends its stop signal when the drain took too long.
      const onSignal = (name) => (running ? drainer.cut() : this.#begin(name));
      signals.forEach((name) => process.on(name, onSignal));
      if (this.draining) start();
      else this.#atDrain.push(start);
    });
  }

  ref() {
    this.#wanted = true;
    this.#hold();
    return this;
  }

  unref() {
    this.#wanted = false;
    this.#hold();
    return this;
  }

  close() {
    this.#lost(new HandoverError('gone', 'the channel was closed by the program'), false);
  }

  // -- what handover says

  #take(line, handle, odd) {
    if (!this.#carrier) return drop(handle);
    const wrong = fault(line, odd) ?? this.#outOfPlace(line, handle);
    if (wrong) {
      drop(handle);
      return this.#breach(wrong);
    }
    if (Object.hasOwn(this.#answers, line.type)) return void this.#answers[line.type](line, handle);
    drop(handle);
    if (isNumber(line.id)) this._say({ type: 'refused', re: line.id, error: 'unsupported', reason: 'lines of this type are not known here' });
    return undefined;
  }

  #outOfPlace(line, handle) {
    if (line.type === 'hello' && this.#theirs) return 'a second "hello"';
    if (line.type !== 'hello' && line.type !== 'refused' && !this.#theirs) return `"${line.type}" before "hello"`;
    if (line.type === 'message' && line.reply === true && this.#owed.has(line.id)) return `the id ${line.id} is still in use`;
    if (line.fds > 0 && !handle) return `"${line.type}" without its fds`;
    return undefined;
  }

  #answers = {
    hello: (line) => {
      this.#theirs = isSpoken(line) ? line : { capabilities: [] };
      if (!isSpoken(line)) return this.#lost(new HandoverError('version', 'handover does not speak version 1'), false);
      return this.#greeted(line);
    },
    ping: ({ id }) => this._say({ type: 'pong', re: id }),
    drain: ({ reason, deadline_ms: ms }) => this.#begin(reason, ms),
    grant: (line, handle) => this.#granted(line, handle),
    sent: (line) => this.#answered(line),
    reply: (line, handle) => this.#answered(line, handle),
    refused: (line) => this.#refused(line),
    message: (line, handle) => {
      if (line.reply === true) this.#owed.add(line.id);
      this.#message(new Message(this, line, handle));
    },
    listener_removed: ({ name }) => {
      for (const server of this.#served.get(name) ?? []) this.#stopAccepting(server);
      this.#served.delete(name);
      process.nextTick(() => this.emit('listenerRemoved', name));
    },
  };

  #granted(line, handle) {
    const question = this.#questions.get(line.re);
    if (!question?.onPart) return this.#answered(line, handle);
    question.onPart(handle);
    if ((line.part ?? 0) + 1 < (line.parts ?? 1)) return undefined;
    return this.#settle(line.re, ({ resolve }) => resolve(line));
  }

  /** An answer; one of another kind than was asked for is as a refusal. */
  #answered(line, handle) {
    if (this.#questions.get(line.re)?.wanted === line.type) {
      return this.#settle(line.re, ({ resolve }) => resolve(handle ? { ...line, handle } : line));
    }
    drop(handle);
    return this.#settle(line.re, ({ reject }) => reject(new HandoverError('failed', `it was answered with ${line.type}`)));
  }

  #refused({ re, error, reason }) {
    const cause = new HandoverError(error, reason);
    if (re === undefined) this.#farewell = cause;
    else this.#settle(re, ({ reject }) => reject(cause));
  }

  #message(message) {
    if (this.listenerCount('message') > 0 && this.#held.length === 0) {
      process.nextTick(() => this.emit('message', message));
    } else if (this.#held.length < HELD_MAX) {
      this.#held.push(message); // the program may still be starting
    } else {
      drop(message.handle);
      message.refuse('queue_full', 'this worker listens to no messages');
    }
  }

  // -- ends

  #begin(reason, ms) {
    if (this.draining) return;
    this.draining = true;
    if (ms !== undefined) this.deadline = Date.now() + ms;
    const drain = { reason, deadline: this.deadline };
    this.#hold();
    for (const start of this.#atDrain.splice(0)) start();
    this.#drained(drain);
    this.#abort.abort(new HandoverError('drain', reason));
    process.nextTick(() => this.emit('drain', drain));
    if (!this.#drainHeard) this.#drainUnheard();
  }

  /** Nobody wants to know of the drain: end as on SIGTERM, or by what is known of the program. */
  #drainUnheard() {
    if (process.listenerCount('SIGTERM') > 0) return void process.kill(process.pid, 'SIGTERM');
    const servers = [...this.#served.values()].flat().filter((server) => typeof server.listen === 'function');
    return void Promise.all(servers.map((server) => this.#graceful(server, {}))).then(() => process.exit(0));
  }

  /** handover broke the rules. */
  #breach(reason) {
    this._say({ type: 'refused', error: 'protocol', reason });
    this.#lost(new HandoverError('protocol', reason), false);
  }

  /** handover's end is closed. After a `refused` it lives, and will follow this worker up; without, its address may be taken soon. */
  #ended() {
    if (this.#carrier) this.#lost(this.#farewell ?? new HandoverError('gone', 'handover is gone'), !this.#farewell);
  }

  #lost(cause, drain) {
    const carrier = this.#carrier;
    if (!carrier) return;
    carrier.ref(false);
    this.#carrier = undefined;
    carrier.end();
    this.#greeted(undefined);
    for (const id of [...this.#questions.keys()]) this.#settle(id, ({ reject }) => reject(cause));
    process.nextTick(() => this.emit('gone', cause));
    if (drain) this.#begin(cause.reason);
  }
}

// ---- small things ----------------------------------------------------------------------------------------------------------

/**
 * Without a channel: to NOTIFY_SOCKET. Node has no datagrams on Unix sockets, so systemd-notify sends them, where it is installed; it is
 * waited for, because the program's next line may be its exit. A heartbeat is not worth a process.
 */
function notify(line) {
  if (!process.env.NOTIFY_SOCKET) return;
  // handover knows a sender that is gone; systemd may not, so there systemd-notify stays until it was heard.
  const words = process.env.HANDOVER_WORKER === undefined ? [line] : ['--no-block', line];
  spawnSync('systemd-notify', words, { stdio: 'ignore', timeout: 5000 });
}

/** A rejection that nobody looks at does not end the process. */
function quiet(promise) {
  promise.catch(() => {});
  return promise;
}

/** The text of a `message` or a `reply`. Throws where it would be the channel's end. */
function message(line) {
  const data = toJson(line.data);
  if (Buffer.byteLength(data) > DATA_BYTES_MAX) throw new HandoverError('bad_request', `data is longer than ${DATA_BYTES_MAX} bytes`);
  if (nesting(data) >= NESTING_MAX) throw new HandoverError('bad_request', `data nests deeper than ${NESTING_MAX - 1}`);
  const text = toJson({ ...line, data: line.data ?? null });
  if (Buffer.byteLength(text) >= MESSAGE_BYTES_MAX) throw new HandoverError('bad_request', 'the message is too long');
  return text;
}

function fieldValue(value) {
  if (typeof value === 'bigint') return String(value);
  if (value instanceof Error) return value.stack ?? String(value);
  return value;
}

/** A log line that the protocol takes: what is too long is cut, the message first. */
function fit(line) {
  const over = () => Buffer.byteLength(toJson(line)) + 1 - LINE_BYTES_MAX;
  for (let excess = over(); excess > 0; excess = over()) {
    const bytes = Buffer.byteLength(line.message);
    if (bytes > TEXT_BYTES_MAX) {
      line.message = `${cut(line.message, Math.max(TEXT_BYTES_MAX - 3, Math.min(bytes - excess, bytes >> 1)))}…`;
    } else {
      const sizes = Object.entries(line.fields ?? {}).map(([key, value]) => [key, toJson(value).length + key.length]);
      const [largest] = sizes.sort((a, b) => b[1] - a[1])[0];
      if (typeof line.fields[largest] === 'string' && line.fields[largest].length > 512) line.fields[largest] = `${cut(line.fields[largest], 500)}…`;
      else delete line.fields[largest];
    }
  }
  return line;
}

/** Without a channel a record goes to standard error: with the level that handover and systemd read there, or for people. */
function printLog({ level, message: text, target, fields = {} }, pool) {
  const pairs = Object.entries(fields).map(([key, value]) => `${key}=${typeof value === 'string' ? value : toJson(value)}`);
  const line = [target && `${target}:`, text, ...pairs].filter(Boolean).join(' ').replace(/\n/g, ' ');
  const number = { error: 3, warn: 4, info: 6, debug: 7, trace: 7 }[level];
  const captured = pool !== undefined || process.env.JOURNAL_STREAM !== undefined;
  process.stderr.write(captured ? `<${number}>${line}\n` : `${level}: ${line}\n`);
}

/** Takes a connection out of the program's hands while it is on its way. Its copy is closed when the other has it. */
function lend(handle) {
  if (!(handle instanceof net.Socket)) return { given() {}, back() {} };
  if (!handle._handle) throw new HandoverError('failed', 'the connection is closed');
  if (handle.readableLength > 0) {
    throw new HandoverError('failed', 'bytes were read from the connection and not taken; hint: pauseOnConnect: true, or read() them and send them in data');
  }
  const flowing = handle.readableFlowing === true;
  const { server, _handle: inner } = handle;
  const { reading } = inner;
  handle.pause();
  inner.reading = false;
  inner.readStop(); // pause() alone would still read one chunk, which nobody would get
  handle.server = null; // else server.close() asks the other process whether it has closed the connection
  return {
    given: () => handle.destroy(),
    back: () => {
      handle.server = server;
      if (handle._handle !== inner) return; // it was closed meanwhile
      if (reading) {
        inner.reading = true;
        inner.readStart();
      }
      if (flowing) handle.resume();
    },
  };
}

/** Closes what came and is not wanted. */
function drop(handle) {
  if (!handle) return;
  if (typeof handle.destroy === 'function') handle.destroy();
  else handle.close?.();
}

/** One client a process, however often the file is loaded; threads have none. */
function connect() {
  const { env } = process;
  if (!require('node:worker_threads').isMainThread) return new Handover(undefined);
  const number = env.HANDOVER_CHANNEL;
  delete env.HANDOVER_CHANNEL;
  return new Handover(number === undefined ? NodeCarrier.open() : NativeCarrier.open(number));
}

const KEY = Symbol.for('handover.client.1');
globalThis[KEY] ??= connect();
module.exports = globalThis[KEY];
module.exports.HandoverError = HandoverError;
module.exports.default = module.exports;
