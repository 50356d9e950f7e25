// Strangers at a port: COUNT connections that never finish what they begin to say, and that come
// again when they are let go. node crowd.mjs PORT COUNT AGAIN_MS BYTES_BASE64
// Says `N` whenever it was asked for on standard input: how many have come so far.
import net from 'node:net';

const [port, count, againMs, bytes] = process.argv.slice(2);
const first = Buffer.from(bytes ?? '', 'base64');
let come = 0;

function knock() {
  const socket = net.connect({ host: '127.0.0.1', port: Number(port) });
  let at = 0;
  const drip = setInterval(() => {
    if (at < first.length) socket.write(first.subarray(at, ++at));
  }, 500);
  socket.on('connect', () => {
    come++;
    if (first.length > 0) socket.write(first.subarray(0, ++at));
  });
  socket.on('error', () => undefined);
  socket.on('close', () => {
    clearInterval(drip);
    setTimeout(knock, Number(againMs) * (0.5 + Math.random()));
  });
}

for (let n = 0; n < Number(count); n++) setTimeout(knock, n / 5);
process.stdin.on('data', () => console.log(come));
process.stdin.on('end', () => process.exit());
