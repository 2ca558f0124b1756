// A cluster as Node's documentation shows it: the primary forks the workers, and another one for each that ends.
const began = process.hrtime.bigint();
const cluster = require('node:cluster');
const http = require('node:http');

const [host, port, workers] = process.argv.slice(2);

if (cluster.isPrimary) {
  for (let i = 0; i < Number(workers); i++) {
    cluster.fork();
  }
  cluster.on('exit', () => cluster.fork());
} else {
  http.createServer((request, response) => {
    const body = `pid=${process.pid} began=${began}\n`;
    response.writeHead(200, { 'Content-Length': Buffer.byteLength(body) });
    response.end(body);
  }).listen(Number(port), host);
}
