/** A replica of a core: takes all blocks, and says how many it has without a gap. */
import { once } from 'node:events';
import net from 'node:net';
import Hypercore from 'hypercore';

const { dataDir } = JSON.parse(process.argv[2]);
const servers = [net.createServer({ noDelay: true }), net.createServer({ noDelay: true })];
for (const server of servers) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
}
const [port, tellPort] = servers.map((server) => server.address().port);
process.send({ kind: 'listening', port, tellPort });

const connected = once(servers[0], 'connection');
const [tell] = await once(servers[1], 'connection');
tell.on('error', () => undefined);
const [key] = await once(tell, 'data');
const core = new Hypercore(dataDir, key);
await core.ready();
core.download({ start: 0, end: -1 });
let told = 0;
core.on('download', () => {
  const { contiguousLength } = core;
  if (contiguousLength === told) return;
  told = contiguousLength;
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(told));
  tell.write(bytes);
});
const [socket] = await connected;
const stream = core.replicate(false);
stream.on('error', () => undefined);
socket.on('error', () => undefined);
socket.pipe(stream).pipe(socket);
process.on('message', () => process.exit(0));
process.on('disconnect', () => process.exit(0));
