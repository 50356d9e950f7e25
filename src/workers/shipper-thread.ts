/** The thread of one shipper: gives it its socket, its files and its port to the main thread. */
import fs from 'node:fs/promises';
import net from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import type { ShipperStart, ToShipper } from '../shared/control.js';
import { KEEPALIVE_MS } from '../shared/limits.js';
import { Shipper } from './shipper.js';

const port = parentPort!;
const shipper = new Shipper(workerData as ShipperStart, {
  tell: (message) => port.postMessage(message),
  connect: (host, port) =>
    net.connect({
      host,
      port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEPALIVE_MS,
    }),
  openSegment: async (path) => {
    const file = await fs.open(path, 'r');
    return {
      read: async (into, position) => (await file.read(into, 0, into.length, position)).bytesRead,
      close: () => file.close(),
    };
  },
  ended: () => process.exit(0),
});
port.on('message', (message: ToShipper) => shipper.message(message));
shipper.run();
