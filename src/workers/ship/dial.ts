/** The socket of a shipper: dialled by name each time, so that a node may move (FAULTS row 49). */
import net from 'node:net';
import tls from 'node:tls';
import type { Address } from '../../shared/address.js';
import { type ByteSocket, readsIntoOneBuffer } from '../../shared/wire/byte-socket.js';
import type { Security } from '../../shared/wire/tls/certificates.js';
import { securely } from '../../shared/wire/tls/late-socket.js';

/** See `ShipperWorld.connect`. All addresses that a name has are tried, in turn. */
export function dial(
  { host, port }: Address,
  keepAliveMs: number,
  security: Security | undefined,
): ByteSocket {
  const keepAlive = { keepAlive: true, keepAliveInitialDelay: keepAliveMs };
  const options = { host, port, noDelay: true, autoSelectFamily: true, ...keepAlive };
  if (!security) {
    const plain: net.Socket = net.connect({ ...options, onread: readsIntoOneBuffer(() => plain) });
    return plain;
  }
  const raw = net.connect(options);
  return securely(raw, security, (options) => tls.connect({ socket: raw, ...options }));
}
