/** What a shipper needs of the thread that it runs on. */

import type { Address } from '../../shared/address.js';
import type { FromShipper } from '../../shared/link/control.js';
import type { ByteSocket } from '../../shared/wire/byte-socket.js';
import type { Security } from '../../shared/wire/tls/certificates.js';

/** A segment that is open for reading. */
export interface SegmentFile {
  /** @returns bytes read, 0 at the end of the file */
  read(into: Uint8Array, position: number): Promise<number>;
  close(): Promise<void>;
}

export interface ShipperWorld {
  /** What to add to `performance.now()` here to get the main thread's. */
  readonly aheadMs: number;
  /** To the main thread. */
  tell(message: FromShipper): void;
  /** @param security with it `connect` is told when the other end is who it must be */
  connect(address: Address, security: Security | undefined): ByteSocket;
  openSegment(path: string): Promise<SegmentFile>;
  /** The shipper is done: its thread may end. */
  ended(): void;
}
