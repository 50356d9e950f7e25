import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import tls from 'node:tls';
import { LISTEN_BACKLOG } from '../../shared/limits.js';
import type { FromShipper } from '../../shared/link/control.js';
import { type ByteSocket, readsIntoOneBuffer } from '../../shared/wire/byte-socket.js';
import { securely } from '../../shared/wire/tls/late-socket.js';
import { type Coordinator, StaticCoordinator } from '../lead/coordinator.js';
import { EtcdCoordinator } from '../lead/etcd/coordinator.js';
import type { NodeConfig } from '../options/options.js';
import type { ShipperThreads, Sockets } from '../runtime/machine.js';
import { SecureDoor } from '../runtime/secure-door.js';
import { startThread } from '../runtime/threads.js';
import { warn } from '../runtime/warn.js';

/**
 * Names the directory on this very machine, as it runs now. Its lock is one process's: whoever has
 * it and finds an earlier life by the same name knows that life to be over.
 */
function placeOf(dataDir: string): string {
  let machine: string;
  try {
    machine = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    machine = os.hostname();
  }
  const { dev, ino } = fs.statSync(dataDir, { bigint: true });
  return `${machine}:${dev}:${ino}`;
}

export interface Platform extends Sockets, ShipperThreads {
  coordinator(config: NodeConfig): Coordinator;
}

/** Real sockets, real threads. */
export const nodePlatform: Platform = {
  listener(accepted, keepAliveMs, credentials) {
    const keepAlive = { keepAlive: true, keepAliveInitialDelay: keepAliveMs };
    // What came before the end may still wait for work that is under way.
    const door = credentials.now.tls && new SecureDoor(credentials);
    const options = { noDelay: true, allowHalfOpen: true, pauseOnConnect: !door, ...keepAlive };
    const server = net.createServer(options, (socket) =>
      accepted(door?.accept(socket) ?? plainSocket(socket)),
    );
    return {
      listen: (address) =>
        new Promise((resolve, reject) => {
          server.once('error', reject);
          server.listen({ ...address, backlog: LISTEN_BACKLOG }, () => {
            // Nobody waits for its errors any more, and they must not end the host.
            server.on('error', (error) => {
              warn(`the listening socket: ${error.message}`);
            });
            resolve({ host: address.host, port: (server.address() as net.AddressInfo).port });
          });
        }),
      close: () => new Promise((resolve) => server.close(() => resolve())),
    };
  },

  connect({ host, port }, keepAliveMs, security) {
    const keepAlive = { keepAlive: true, keepAliveInitialDelay: keepAliveMs };
    const options = { host, port, noDelay: true, autoSelectFamily: true, ...keepAlive };
    if (!security) {
      const plain: net.Socket = net.connect({
        ...options,
        onread: readsIntoOneBuffer(() => plain),
      });
      return plain;
    }
    const raw = net.connect(options);
    return securely(raw, security, (options) => tls.connect({ socket: raw, ...options }));
  },

  startShipper(start, hooks) {
    const given = { start, mainOriginMs: clockOriginMs() };
    const worker = startThread('shipper-thread', `shipper ${start.replica.nodeId}`, given);
    let reason: string | undefined;
    worker.on('message', (message: FromShipper) => hooks.message(message));
    worker.on('error', (error) => {
      reason = error.message;
    });
    worker.on('exit', () => hooks.exit(reason));
    return {
      post: (message) => worker.postMessage(message),
      terminate: () => void worker.terminate(),
    };
  },

  coordinator({ coordinator, clusterId, nodeId, dataDir }) {
    if (coordinator.kind !== 'etcd') return new StaticCoordinator();
    return new EtcdCoordinator(clusterId, nodeId, placeOf(dataDir), coordinator);
  },
};

/** What Node's sockets have, and its types do not tell. */
interface WithHandle {
  _handle?: object | null;
}

/**
 * The same connection, read into one buffer. Node has that for sockets that dial alone; so the
 * handle of one that was accepted goes over to such a socket, as it does from process to process.
 * @param accepted paused, so that nothing of it has been read
 */
function plainSocket(accepted: net.Socket): ByteSocket {
  const given = accepted as WithHandle;
  const handle = given._handle;
  if (!handle) {
    accepted.resume();
    return accepted;
  }
  given._handle = null;
  const onread = readsIntoOneBuffer(() => socket);
  const options = { handle, onread, allowHalfOpen: true };
  const socket: net.Socket = new net.Socket(options as net.SocketConstructorOpts);
  // It is the server's, which counts it until it is closed.
  socket.on('close', () => accepted.destroy());
  return socket;
}

/** Where `performance.now()` of this thread began, on the clock that all threads share. */
function clockOriginMs(): number {
  return Number(process.hrtime.bigint()) / 1e6 - performance.now();
}
