'use strict';

// The program that conformance.py starts to try handover.js. What it must do is in README.md.

const { execFile } = require('node:child_process');
const { once } = require('node:events');
const net = require('node:net');
const handover = require('./handover');

let underWay = 0;
let turn = Promise.resolve(); // a server that is taken is there for the order that follows
let held = [];
let questions = [];
let accepted; // takes connections of what was granted last

const leaveIfDone = () => handover.draining && underWay === 0 && process.exit(0);

function report(order, report) {
  const tagged = order.tag === undefined ? report : { ...report, tag: order.tag };
  return handover.send('handover', tagged, { confirm: false });
}

async function outcomeOf(promise, say) {
  try {
    return say(await promise);
  } catch (error) {
    if (!(error instanceof handover.HandoverError)) throw error;
    if (error.code === 'unsupported' && error.reason.includes('channel = "node"')) return { unsupported: error.reason };
    return { refused: { error: error.code } };
  }
}

/** A server whose connections wait until an order wants them. */
function waitingServer() {
  const sockets = [];
  const wanted = [];
  const server = net.createServer({ pauseOnConnect: true }, (socket) => {
    if (wanted.length > 0) wanted.shift()(socket);
    else sockets.push(socket);
  });
  server.next = () => new Promise((resolve) => (sockets.length > 0 ? resolve(sockets.shift()) : wanted.push(resolve)));
  return server;
}

async function grant(order, name) {
  const server = waitingServer();
  const outcome = await outcomeOf(handover.listen(server, name), (granted) => {
    accepted = server;
    return { granted: { name: granted.name, ...(granted.origin === 'channel' && { address: granted.address }), fds: granted.sockets } };
  });
  await report(order, { outcome });
}

/** Node makes no socket pairs: two ends of a connection over an abstract address are the same. */
async function pair() {
  const server = waitingServer();
  await new Promise((resolve) => server.listen(`\0handover-conformance-${process.pid}-${Math.random()}`, resolve));
  const near = net.connect(server.address());
  const far = await server.next();
  server.close();
  return [near, far];
}

async function sendFd(order) {
  const [near, far] = await pair();
  const sent = handover.send(order.to, 'fd', { handle: far });
  const outcome = await outcomeOf(sent, (s) => ({ sent: s }));
  if (outcome.refused) {
    // It is this program's as before.
    far.write('?');
    const [byte] = await once(near, 'data');
    outcome.kept = byte.toString() === '?';
  }
  near.on('error', () => {});
  await new Promise((resolve) => near.end('fd\n', resolve));
  if (!outcome.sent) far.destroy();
  await report(order, { outcome });
}

function replied({ data, from, handle }) {
  handle?.end('taken\n');
  return { reply: data, from, ...(handle && { fds: 1 }) };
}

async function replyFd(order, message) {
  const [near, far] = await pair();
  near.on('error', () => {});
  await new Promise((resolve) => near.end('fd\n', resolve));
  try {
    message.reply('fd', { handle: far });
  } catch (error) {
    far.destroy();
    await report(order, { outcome: { unsupported: error.reason } });
  }
}

async function send(order) {
  const { to, data, timeout_ms: timeout } = order;
  if (order.reply) {
    return report(order, { outcome: await outcomeOf(handover.ask(to, data, { timeout }), replied) });
  }
  if (order.id) return report(order, { outcome: await outcomeOf(handover.send(to, data), (sent) => ({ sent })) });
  return handover.send(to, data, { confirm: false });
}

const ORDERS = {
  about: (order) => report(order, { outcome: { about: { loop: true } } }),
  echo: (order, message) => message.reply(order.data),
  refuse: (order, message) => message.refuse(order.error, 'as ordered'),
  send,
  send_fd: sendFd,
  reply_fd: replyFd,
  fork: (order) => report(order, { outcome: { unsupported: 'Node does not fork' } }),
  flood: ({ count, size }) => {
    for (let n = 0; n < count; n++) handover.send('handover', { n, pad: 'x'.repeat(size) }, { confirm: false });
  },
  log: ({ level, message, target, fields }) => handover.log(level, message, fields, target),
  status: ({ text }) => handover.status(text),
  heartbeat: () => handover.heartbeat(),
  extend_timeout: ({ ms }) => handover.extendTimeout(ms),
  replace: ({ reason }) => handover.replace(reason),
  stopping: () => handover.stopping(),
  listen: (order) => grant(order, order.name ?? order.address),
  inherited: (order) => {
    if (handover.inherited.some(({ name }) => name === order.name)) return grant(order, order.name);
    return report(order, { outcome: { refused: { error: 'missing' } } });
  },
  accept: async () => {
    const socket = await accepted.next();
    await new Promise((resolve) => socket.end('hello\n', resolve));
  },
  release: () => {
    for (const handle of held.splice(0)) handle.end('taken\n');
    for (const question of questions.splice(0)) question.reply(true);
  },
  run: (order) =>
    new Promise((resolve) => {
      const [program, ...args] = order.command;
      execFile(program, args, (_error, output) => resolve(report(order, { outcome: { output } })));
    }),
  hang: () => {
    for (;;);
  },
};

async function obey(message) {
  const { data: order, handle } = message;
  const todo = order && ORDERS[order.do];
  if (order?.do === 'hold') {
    if (handle) held.push(handle);
    questions.push(message);
  } else if (order?.do === 'from') message.reply(message.from);
  else if (handle) {
    await new Promise((resolve) => handle.end('taken\n', resolve));
    if (message.wantsReply) message.reply({ fds: 1 });
  } else if (todo && message.from === 'handover') await todo(order, message);
}

/** Orders begin in the order in which they come; one that takes a listener is finished before the next begins. */
function take(message) {
  underWay++;
  const alone = ['listen', 'inherited'].includes(message.data?.do);
  const begun = turn.then(() => {
    const done = obey(message).finally(() => {
      underWay--;
      setImmediate(leaveIfDone);
    });
    return alone ? done : undefined;
  });
  turn = begun.catch(() => {});
}

function goOn() {
  setInterval(() => {}, 1 << 30);
}

function plain() {
  handover.status('without handover');
  handover.heartbeat();
  handover.extendTimeout(20000);
  handover.log('info', 'plain');
  handover.ready();
  console.log('plain');
  goOn();
}

handover.on('message', take);
handover.on('drain', leaveIfDone);
handover.on('listenerRemoved', (name) => handover.send('handover', { removed: name }, { confirm: false }));
handover.on('gone', (error) => {
  if (error.code === 'version') plain();
  else if (error.code !== 'gone') {
    handover.status('lost');
    console.log('lost');
    goOn();
  }
});
process.on('SIGTERM', () => process.exit(0));
if (handover.active) handover.ready();
else plain();
