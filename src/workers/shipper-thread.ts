/** The thread of one shipper: gives it its socket, its files and its port to the main thread. */
import fs from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';
import type { ShipperStart, ToShipper } from '../shared/link/control.js';
import { CounterWords } from '../shared/memory/counter-words.js';
import { SHIPPER_COUNTER } from '../shared/memory/metric-words.js';
import { featureOf, loadCodecs } from '../shared/wire/compression.js';
import { countedSocket } from '../shared/wire/counted-socket.js';
import { dial } from './ship/dial.js';
import { Shipper } from './ship/shipper.js';

const port = parentPort!;
const { start, mainOriginMs } = workerData as { start: ShipperStart; mainOriginMs: number };
// Messages wait in the port until somebody listens.
await loadCodecs(featureOf(start.compression));
const words = new CounterWords(start.counters);
const shipper = new Shipper(start, {
  aheadMs: clockOriginMs() - mainOriginMs,
  tell: (message) => port.postMessage(message),
  connect: (address, security) =>
    countedSocket(
      dial(address, start.keepAliveMs, security),
      (bytes) => words.add(SHIPPER_COUNTER.bytesReceived, bytes),
      (bytes) => words.add(SHIPPER_COUNTER.bytesSent, bytes),
    ),
  openSegment: async (path) => {
    const { O_RDONLY, O_NOFOLLOW = 0, O_NONBLOCK = 0 } = fs.constants;
    const file = await fs.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (!(await file.stat()).isFile()) {
      await file.close();
      throw new Error(`${path} is no file`);
    }
    return {
      read: async (into, position) => (await file.read(into, 0, into.length, position)).bytesRead,
      close: () => file.close(),
    };
  },
  ended: () => process.exit(0),
});
port.on('message', (message: ToShipper) => shipper.message(message));
shipper.run();

/** Where `performance.now()` of this thread began, on the clock that all threads share. */
function clockOriginMs(): number {
  return Number(process.hrtime.bigint()) / 1e6 - performance.now();
}
