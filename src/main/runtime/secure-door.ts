/**
 * TLS on connections that were accepted. Whether one begins as TLS does is looked at first; its
 * place among those that have proved nothing is taken from the moment on at which it was accepted.
 */
import type net from 'node:net';
import tls from 'node:tls';
import { HANDSHAKE_DEADLINE_MS } from '../../shared/limits.js';
import type { ByteSocket } from '../../shared/wire/byte-socket.js';
import {
  type CredentialsNow,
  isTls,
  missingTls,
  provenBy,
  type TlsCredentials,
  tlsFailure,
} from '../../shared/wire/tls/certificates.js';
import { LateSocket, tlsOptions } from '../../shared/wire/tls/late-socket.js';

export class SecureDoor {
  readonly #credentials: CredentialsNow;
  readonly #server: tls.Server;
  /** Those whose handshake is under way, by their two ends; and what accepts them. */
  readonly #late = new Map<string, { readonly late: LateSocket; readonly ca: string }>();
  /** What the server has been given. */
  #given: TlsCredentials | undefined;

  constructor(credentials: CredentialsNow) {
    this.#credentials = credentials;
    const handshakeTimeout = HANDSHAKE_DEADLINE_MS;
    this.#server = tls.createServer({ ...this.#options(), handshakeTimeout });
    this.#server.on('secureConnection', (socket) => this.#secured(socket));
    this.#server.on('tlsClientError', (error, socket) => {
      this.#late.get(endsOf(socket))?.late.failed(tlsFailure(error));
    });
  }

  #options(): ReturnType<typeof tlsOptions> {
    this.#given = this.#credentials.now.tls;
    return tlsOptions(this.#given!);
  }

  accept(raw: net.Socket): ByteSocket {
    const late = new LateSocket(raw);
    const ends = endsOf(raw);
    const seen: Buffer[] = [];
    const first = (chunk: Buffer): void => {
      seen.push(chunk);
      const bytes = Buffer.concat(seen);
      if (bytes.length < 3) return;
      raw.off('data', first);
      if (isTls(bytes)) this.#begin(raw, bytes, late, ends);
      else late.refused(raw, missingTls());
    };
    raw.on('data', first);
    raw.on('end', () => {
      if (!late.proven) raw.destroySoon();
    });
    raw.on('close', () => this.#late.delete(ends));
    return late;
  }

  #begin(raw: net.Socket, bytes: Buffer, late: LateSocket, ends: string): void {
    if (this.#credentials.now.tls !== this.#given) this.#server.setSecureContext(this.#options());
    this.#late.set(ends, { late, ca: this.#given!.ca });
    raw.pause();
    raw.unshift(bytes);
    this.#server.emit('connection', raw);
  }

  #secured(socket: tls.TLSSocket): void {
    const ends = endsOf(socket);
    const known = this.#late.get(ends);
    this.#late.delete(ends);
    if (!known) {
      socket.destroy();
      return;
    }
    const { late, ca } = known;
    try {
      late.opened(socket, provenBy(socket, ca));
    } catch (error) {
      late.refused(socket, error);
    }
  }
}

/** No two connections that stand have the same. */
function endsOf({ remoteAddress, remotePort, localAddress, localPort }: net.Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
}
