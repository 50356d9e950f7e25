// A port of nobody's: takes what comes and ends each connection, as a node that refuses it does.
import net from 'node:net';

process.on('disconnect', () => process.exit(0));
const server = net.createServer((socket) => {
  socket.on('error', () => undefined);
  socket.once('data', () => socket.end());
  socket.resume();
});
server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
