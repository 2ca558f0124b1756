'use strict';

// What conformance.py cannot try: how handover.js behaves inside a Node program. Run with: node --test clients/
// Each test is a program of its own, because a process drains once; this process plays handover.

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');

const HELLO = {
  type: 'hello', version: 1, versions: [1, 1], capabilities: ['drain', 'ping', 'listen', 'messages', 'log', 'fds'],
  name: 'test', pool: 'web', slot: 0, generation: 1, worker: 1,
};
const DEADLINE_MS = 15000;
const CLIENT = JSON.stringify(path.join(__dirname, 'handover.js'));
const HEAD = `const handover = require(${CLIENT}); const http = require('http'); const net = require('net');\n`;

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing came in time: ${what}`)), DEADLINE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A worker that runs the code, and what it says. `channel` is "handover", "node" or "none". */
class Worker {
  constructor(t, channel, code) {
    const env = { ...process.env, ...(channel !== 'none' && { HANDOVER_POOL: 'web', HANDOVER_WORKER: '1' }) };
    delete env.NODE_TEST_CONTEXT;
    if (channel === 'handover') env.HANDOVER_CHANNEL = '3';
    const further = { handover: ['pipe'], node: ['ipc'], none: [] }[channel];
    this.channel = channel;
    this.process = spawn(process.execPath, ['-e', HEAD + code], { env, stdio: ['ignore', 'pipe', 'inherit', ...further] });
    this.ended = once(this.process, 'exit').then(([status, signal]) => signal ?? status);
    this.lines = [];
    this.handles = [];
    this.foreign = [];
    this.output = '';
    this.news = () => {};
    this.process.stdout.on('data', (data) => this.#heard(() => { this.output += data; }));
    if (channel === 'handover') this.#readNative(this.process.stdio[3]);
    if (channel === 'node') this.process.on('message', (message, handle) => this.#heard(() => this.#take(message, handle)));
    t.after(() => this.process.kill('SIGKILL'));
  }

  #heard(change) {
    change();
    this.news();
  }

  #readNative(socket) {
    let buffer = '';
    socket.on('error', () => {});
    socket.write(`${JSON.stringify(HELLO)}\n`);
    socket.on('data', (data) => this.#heard(() => {
      buffer += data;
      const lines = buffer.split('\n');
      buffer = lines.pop();
      this.lines.push(...lines.map((line) => JSON.parse(line)));
    }));
  }

  #take(message, handle) {
    if (!message.handover) return void this.foreign.push(message);
    this.lines.push(message.handover);
    if (handle) this.handles.push(handle);
    if (message.handover.type === 'hello') this.say(HELLO);
  }

  say(line, handle) {
    // A program with nothing to do may have ended before handover's hello: with a callback that is no exception.
    if (this.channel === 'node') this.process.send({ handover: line }, handle, {}, () => {});
    else this.process.stdio[3].write(`${JSON.stringify(line)}\n`);
  }

  async until(found, what) {
    const all = async () => {
      while (!found()) await new Promise((resolve) => { this.news = resolve; });
      return found();
    };
    return within(all(), what);
  }

  line(type) {
    return this.until(() => this.lines.find((line) => line.type === type), type);
  }

  /** The port that the program prints. */
  async port() {
    return Number(await this.until(() => /port (\d+)/.exec(this.output)?.[1], 'a port'));
  }

  drain(deadline_ms) {
    this.say({ type: 'drain', reason: 'its successor took over', ...(deadline_ms && { deadline_ms }) });
  }

  end() {
    return within(this.ended, 'the end');
  }
}

/** A server that answers /slow when /go is asked, and /half with its end only then. */
const SERVER = (options = '{}') => `
  const waiting = [];
  const server = http.createServer((request, response) => {
    if (request.url === '/go') { waiting.splice(0).forEach((go) => go()); return response.end('gone'); }
    if (request.url === '/slow') { waiting.push(() => response.end('slow')); return console.log('slow asked'); }
    if (request.url === '/half') { response.write('half'); return waiting.push(() => response.end('whole')); }
    if (request.url === '/never') return console.log('never asked');
    response.end('fine');
  });
  server.keepAliveTimeout = 60000;
  handover.listen(server, 'http', { port: 0, host: '127.0.0.1' }).then(() => console.log('port ' + server.address().port), () => {
    server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port));
  });
  handover.on('drain', () => { waiting.splice(0).forEach((go) => setTimeout(go, 50)); console.log('draining'); });
  handover.graceful(server, ${options}).then(() => console.log('all closed'));
  handover.ready();
`;

function get(port, agent, url) {
  const request = http.get({ port, host: '127.0.0.1', agent, path: url });
  return within(
    once(request, 'response').then(async ([response]) => {
      let body = '';
      for await (const chunk of response) body += chunk;
      return { body, connection: response.headers.connection };
    }),
    url,
  );
}

const keepAlive = () => new http.Agent({ keepAlive: true, maxSockets: 1 });

test('a request in hand is answered, and told that the connection ends', async (t) => {
  const worker = new Worker(t, 'handover', SERVER());
  const port = await worker.port();
  const slow = get(port, keepAlive(), '/slow');
  await worker.until(() => worker.output.includes('slow asked'), 'slow asked');
  worker.drain(30000);
  assert.deepEqual(await slow, { body: 'slow', connection: 'close' });
  assert.equal(await worker.end(), 0);
  assert.match(worker.output, /all closed/);
});

test('an answer whose header is out already comes whole', async (t) => {
  const worker = new Worker(t, 'handover', SERVER('{ idle: 0 }'));
  const port = await worker.port();
  const request = http.get({ port, host: '127.0.0.1', agent: keepAlive(), path: '/half' });
  const [response] = await within(once(request, 'response'), 'the header');
  worker.drain(30000);
  let body = '';
  for await (const chunk of response) body += chunk;
  assert.equal(body, 'halfwhole');
  assert.equal(await worker.end(), 0);
});

test('nobody can connect any more', async (t) => {
  const worker = new Worker(t, 'handover', SERVER());
  const port = await worker.port();
  const agent = keepAlive();
  await get(port, agent, '/');
  worker.drain(30000);
  await worker.until(() => worker.output.includes('draining'), 'draining');
  await assert.rejects(within(once(net.connect(port, '127.0.0.1'), 'connect'), 'a connection'), /ECONNREFUSED/);
  assert.equal((await get(port, agent, '/')).connection, 'close');
  assert.equal(await worker.end(), 0);
});

test('busy keep-alive clients lose no request', async (t) => {
  const worker = new Worker(t, 'handover', SERVER());
  const port = await worker.port();
  const agents = Array.from({ length: 30 }, keepAlive);
  let answered = 0;
  const client = async (agent) => {
    for (;;) {
      const { body, connection } = await get(port, agent, '/');
      assert.equal(body, 'fine');
      if (++answered === 300) worker.drain(30000);
      if (connection === 'close') return;
    }
  };
  await Promise.all(agents.map(client));
  assert.ok(answered >= 300);
  assert.equal(await worker.end(), 0);
});

test('idle connections, and such that never asked anything, do not hold it up', async (t) => {
  const worker = new Worker(t, 'handover', SERVER('{ idle: 100 }'));
  const port = await worker.port();
  await get(port, keepAlive(), '/');
  const silent = net.connect(port, '127.0.0.1');
  await once(silent, 'connect');
  worker.drain(3600000);
  await within(once(silent.resume(), 'close'), 'the end of the silent one');
  assert.equal(await worker.end(), 0);
});

test('what is open at the deadline is cut', async (t) => {
  const worker = new Worker(t, 'handover', SERVER());
  const port = await worker.port();
  const never = get(port, keepAlive(), '/never');
  never.catch(() => {});
  await worker.until(() => worker.output.includes('never asked'), 'never asked');
  worker.drain(300);
  await assert.rejects(never, /ECONNRESET|socket hang up/);
  assert.equal(await worker.end(), 0);
});

test('without handover a signal is the drain, and a second one cuts', async (t) => {
  const worker = new Worker(t, 'none', SERVER('{ timeout: 3600000 }'));
  const port = await worker.port();
  const never = get(port, keepAlive(), '/never');
  never.catch(() => {});
  await worker.until(() => worker.output.includes('never asked'), 'never asked');
  worker.process.kill('SIGTERM');
  await worker.until(() => worker.output.includes('draining'), 'draining');
  worker.process.kill('SIGTERM');
  await assert.rejects(never, /ECONNRESET|socket hang up/);
  assert.equal(await worker.end(), 0);
});

test('a drain that the program does not listen for is its SIGTERM', async (t) => {
  const worker = new Worker(t, 'handover', `
    setInterval(() => {}, 1000);
    process.on('SIGTERM', () => { console.log('term'); process.exit(7); });
    handover.ready();
  `);
  await worker.line('ready');
  worker.drain();
  assert.equal(await worker.end(), 7);
  assert.match(worker.output, /term/);
});

test('a drain that nothing listens for finishes the servers and ends', async (t) => {
  const worker = new Worker(t, 'node', `
    setInterval(() => {}, 1000);
    const server = http.createServer((request, response) => { console.log('asked'); setTimeout(() => response.end('late'), 200); });
    handover.listen(server, 'tcp://127.0.0.1:0').then(({ address }) => console.log('port ' + address.split(':').pop()));
  `);
  const { id } = await worker.line('listen');
  const listener = net.createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = `tcp://127.0.0.1:${listener.address().port}`;
  worker.say({ type: 'grant', re: id, name: 'tcp://127.0.0.1:0', address, fds: 1, id: 1, part: 0, parts: 1 }, listener);
  const port = await worker.port();
  listener.close();
  const answer = get(port, keepAlive(), '/');
  await worker.until(() => worker.output.includes('asked'), 'asked');
  worker.drain(30000);
  assert.deepEqual(await answer, { body: 'late', connection: 'close' });
  assert.equal(await worker.end(), 0);
});

for (const channel of ['handover', 'node', 'none']) {
  test(`channel ${channel}: the client does not keep a program alive that has nothing to do`, async (t) => {
    const worker = new Worker(t, channel, 'handover.ready(); handover.on("drain", () => {}); handover.drain.then(() => {});');
    assert.equal(await worker.end(), 0);
  });
}

for (const channel of ['handover', 'node']) {
  test(`channel ${channel}: who listens for messages lives until the drain`, async (t) => {
    const worker = new Worker(t, channel, `
      handover.on('drain', () => console.log('drain'));
      handover.on('message', (message) => message.reply(message.data + 1));
    `);
    await worker.line('hello');
    worker.say({ type: 'message', id: 5, from: 'handover', data: 1, reply: true });
    assert.deepEqual(await worker.line('reply'), { type: 'reply', re: 5, data: 2 });
    worker.drain();
    assert.equal(await worker.end(), 0);
    assert.match(worker.output, /drain/);
  });
}

test('messages of others reach the program, also when it listens late', async (t) => {
  const worker = new Worker(t, 'node', `
    handover.on('message', () => {});
    setTimeout(() => process.on('message', (m) => { if (!m.handover) console.log('got ' + JSON.stringify(m)); }), 300);
    process.send('ready');
  `);
  await worker.line('hello');
  worker.process.send('shutdown');
  worker.process.send({ type: 'process:msg', data: 1 });
  await worker.until(() => /got "shutdown"\ngot {"type":"process:msg","data":1}/.test(worker.output), 'both');
  assert.deepEqual(worker.foreign, ['ready']);
});

test('a fork of a worker does not take its own parent for handover', async (t) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'handover-'));
  t.after(() => fs.rmSync(directory, { recursive: true }));
  const program = path.join(directory, 'fork.js');
  fs.writeFileSync(program, `console.log('active ' + require(${CLIENT}).active);`);
  const worker = new Worker(t, 'node', `
    handover.ready();
    const child = require('child_process').fork(${JSON.stringify(program)});
    child.on('message', (m) => console.log('said', m));
    child.on('exit', () => console.log('over'));
  `);
  await worker.until(() => worker.output.includes('over'), 'the end of the fork');
  assert.match(worker.output, /active false/);
  assert.doesNotMatch(worker.output, /said/);
});

test('a connection is given away with its data, and the server that accepted it can end', async (t) => {
  const worker = new Worker(t, 'node', `
    const server = net.createServer({ pauseOnConnect: true }, async (socket) => {
      console.log(JSON.stringify(await handover.send({ worker: 2 }, { client: 1 }, { handle: socket })));
      server.close(() => console.log('server closed'));
    });
    server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port));
  `);
  const client = net.connect(await worker.port(), '127.0.0.1');
  client.write('hello');
  const { id, data, fds } = await worker.line('message');
  assert.deepEqual([data, fds], [{ client: 1 }, 1]);
  const [received] = worker.handles;
  worker.say({ type: 'sent', re: id, receivers: 1, refused: [] });
  await worker.until(() => worker.output.includes('server closed'), 'server closed');
  assert.equal(await worker.end(), 0);
  received.end('from the other');
  const [answer] = await within(once(client, 'data'), 'an answer');
  assert.equal(String(answer), 'from the other');
});

test('a connection that was refused is still the sender\'s', async (t) => {
  const worker = new Worker(t, 'node', `
    const server = net.createServer((socket) => {
      socket.on('data', (data) => socket.end('you said ' + data));
      handover.send({ worker: 2 }, null, { handle: socket }).catch((error) => { console.log(error.code); server.close(); });
    });
    server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port));
  `);
  const client = net.connect(await worker.port(), '127.0.0.1');
  const { id } = await worker.line('message');
  worker.handles[0].destroy();
  client.write('hello');
  worker.say({ type: 'refused', re: id, error: 'gone', reason: 'no such worker' });
  const [answer] = await within(once(client, 'data'), 'an answer');
  assert.equal(String(answer), 'you said hello');
  assert.match(worker.output, /gone/);
  assert.equal(await worker.end(), 0);
});

test('every call is harmless without handover', async (t) => {
  const worker = new Worker(t, 'none', `
    handover.ready(); handover.status('x'); handover.heartbeat(); handover.extendTimeout(5); handover.stopping();
    handover.replace('x'); handover.watchdog()(); handover.send('all', { a: 1 }); handover.ask('all', 1); handover.ref().unref();
    handover.close();
    Promise.all([handover.send('all', 1), handover.ask({ worker: 1 }, 1).catch((error) => error.code)]).then((all) => console.log(JSON.stringify(all)));
  `);
  assert.equal(await worker.end(), 0);
  assert.equal(worker.output, '[{"receivers":0,"refused":[]},"gone"]\n');
});
