/** What a node needs of its machine besides the disk: sockets, and threads that ship. */
import type { Address } from '../../shared/address.js';
import type { FromShipper, ShipperStart, ToShipper } from '../../shared/link/control.js';
import type { ByteSocket } from '../../shared/wire/byte-socket.js';
import type { CredentialsNow, Security } from '../../shared/wire/tls/certificates.js';

/** A listening socket. */
export interface Listener {
  /** @returns the address that was bound; rejects with the system's error */
  listen(address: Address): Promise<Address>;
  /** Resolves when it is closed, and every connection that it has accepted. */
  close(): Promise<void>;
}

/** One shipper, on a thread of its own. */
export interface ShipperThread {
  post(message: ToShipper): void;
  /** At once, whatever it does. */
  terminate(): void;
}

export interface ShipperThreadHooks {
  message(message: FromShipper): void;
  /** It has ended; `reason` is undefined where it ended by itself. */
  exit(reason: string | undefined): void;
}

export interface Sockets {
  /**
   * @param keepAliveMs from when on the system probes an idle connection
   * @param credentials with TLS: whoever is accepted has to show a certificate of our authority
   */
  listener(
    accepted: (socket: ByteSocket) => void,
    keepAliveMs: number,
    credentials: CredentialsNow,
  ): Listener;
  /**
   * Dials. Errors come as events of the socket.
   * @param security with it `connect` is told when the other end is who it must be
   */
  connect(address: Address, keepAliveMs: number, security: Security | undefined): ByteSocket;
}

export interface ShipperThreads {
  startShipper(start: ShipperStart, hooks: ShipperThreadHooks): ShipperThread;
}
