// Messages by way of a parent, as Node's documentation shows it: it forks the children and passes on what each sends.
const { fork } = require('node:child_process');
const fs = require('node:fs');

const [role, result, count, window, peers] = process.argv.slice(2);

if (role === 'echo') {
  process.on('message', (message) => process.send(message));
} else if (role === 'ask') {
  process.on('message', (message) => (message.go ? begin() : answered(message)));
} else {
  const asker = fork(__filename, ['ask', result, count, window, peers]);
  const echoes = [];
  asker.on('message', (message) => echoes[message.to].send({ to: message.to, data: message.data }));
  let ready = 0;
  for (let i = 0; i < Number(peers); i++) {
    const echo = fork(__filename, ['echo']);
    echoes.push(echo);
    echo.on('message', (message) => asker.send(message));
    echo.on('spawn', () => ++ready === Number(peers) && asker.send({ go: true }));
  }
}

let sent = 0;
let got = 0;
let begun = 0n;
const at = [];
const took = [];

function send(to) {
  at[to] = process.hrtime.bigint();
  process.send({ to, data: { n: sent++, room: 'lobby', text: 'hello, is anybody there?' } });
}

// Once around first, so that all of them have started.
let warm = 0;
function begin() {
  for (let to = 0; to < Number(peers); to++) send(to);
}

function answered(message) {
  if (warm < Number(peers)) {
    if (++warm < Number(peers)) return;
    sent = 0;
    begun = process.hrtime.bigint();
    for (let i = 0; i < Number(window); i++) send(i % Number(peers));
    return;
  }
  got++;
  if (Number(window) === 1) took.push(Number(process.hrtime.bigint() - at[message.to]));
  if (sent < Number(count)) send(message.to);
  if (got < Number(count)) return;
  const elapsed = process.hrtime.bigint() - begun;
  fs.writeFileSync(`${result}.part`, [elapsed, ...took].join(' '));
  fs.renameSync(`${result}.part`, result);
}
