// An ordinary Node server. It listens on the socket that it is given as fd 3, and on SIGTERM it stops
// accepting, finishes what it has, and leaves.
const http = require('node:http');

const VERSION = '1';
let stopping = false;

const server = http.createServer((request, response) => {
  if (stopping) {
    response.setHeader('Connection', 'close');
  }
  const body = `pid=${process.pid} version=${VERSION}\n`;
  response.setHeader('Content-Length', Buffer.byteLength(body));
  response.end(body);
});

server.listen({ fd: 3 });

process.on('SIGTERM', () => {
  stopping = true;
  server.close();
});
