// Listens and never accepts: once its queue is full, the system drops every SYN, and says nothing.
// The parent stops this process (SIGSTOP) when it has heard the port.
import net from 'node:net';

const server = net.createServer();
server.listen({ host: '127.0.0.1', port: 0, backlog: 1 }, () => {
  process.send({ port: server.address().port });
});
process.on('disconnect', () => process.exit(0));
