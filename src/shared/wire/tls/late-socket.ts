/**
 * A socket whose bytes are those of another one that comes later: a TLS socket once its handshake
 * is done and the certificate at the other end is accepted. Until then it says nothing and hands
 * over nothing. Refused, it hands over nothing ever, and takes one last word to the other end.
 */
import { constants } from 'node:crypto';
import { EventEmitter } from 'node:events';
import type { ByteSocket } from '../byte-socket.js';
import {
  checkCertificate,
  type Proven,
  provenBy,
  type Security,
  type ShownCertificate,
  type TlsCredentials,
  tlsFailure,
} from './certificates.js';

export class LateSocket extends EventEmitter implements ByteSocket {
  readonly #raw: ByteSocket;
  #inner: ByteSocket | undefined;
  #proven: Proven | undefined;
  #isPaused = false;
  #isClosed = false;

  /** @param raw what the other socket stands on */
  constructor(raw: ByteSocket) {
    super();
    this.#raw = raw;
    raw.on('error', (error) => {
      if (!this.#inner || this.#inner === raw) this.failed(error);
    });
    raw.on('close', () => {
      if (!this.#inner || this.#inner === raw) this.#closed();
    });
  }

  /** What the other end has proved; undefined: nothing, yet. */
  get proven(): Proven | undefined {
    return this.#proven;
  }

  get destroyed(): boolean {
    return (this.#inner ?? this.#raw).destroyed;
  }

  get remoteAddress(): string | undefined {
    return this.#raw.remoteAddress;
  }

  get writableLength(): number {
    return this.#inner?.writableLength ?? 0;
  }

  /** From now on its bytes are those of `inner`, whose other end has proved this. */
  opened(inner: ByteSocket, proven: Proven): void {
    this.#takes(inner);
    this.#proven = proven;
    inner.on('end', () => this.emit('end'));
    inner.on('data', (chunk) => this.emit('data', chunk));
    if (this.#isPaused) inner.pause();
  }

  /** The other end is refused; it can be told so over `inner`. */
  refused(inner: ByteSocket, error: unknown): void {
    this.#takes(inner);
    inner.on('data', () => undefined);
    this.failed(error as Error);
  }

  failed(error: Error): void {
    if (!this.#isClosed) this.emit('error', error);
  }

  #takes(inner: ByteSocket): void {
    this.#inner = inner;
    if (inner === this.#raw) return;
    inner.on('error', (error) => this.failed(tlsFailure(error)));
    inner.on('close', () => this.#closed());
  }

  #closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.emit('close');
  }

  write(bytes: Uint8Array, done?: () => void): boolean {
    if (this.#inner) return this.#inner.write(bytes, done);
    // Nobody has cause to: `connect` was not told, and nothing was handed over.
    done?.();
    return true;
  }

  pause(): void {
    this.#isPaused = true;
    this.#inner?.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#inner?.resume();
  }

  end(): void {
    (this.#inner ?? this.#raw).end();
  }

  destroy(): void {
    (this.#inner ?? this.#raw).destroy();
  }

  destroySoon(): void {
    if (this.#inner) this.#inner.destroySoon();
    else this.#raw.destroy();
  }
}

/** A TLS socket, as `tls.connect` gives it. */
interface Dialled extends ByteSocket, ShownCertificate {
  on(event: 'secureConnect', heard: () => void): unknown;
  on(event: 'connect' | 'end' | 'close', heard: () => void): unknown;
  on(event: 'data', heard: (chunk: Uint8Array) => void): unknown;
  on(event: 'error', heard: (error: Error) => void): unknown;
}

/**
 * What TLS is given at both ends. Node would hang up without a word on who is not authorized: here
 * `provenBy` refuses, and the other end is told why.
 */
export function tlsOptions({ ca, cert, key }: TlsCredentials) {
  const minVersion = 'TLSv1.3' as const;
  // A session that could be resumed would outlive the certificate that it was made with.
  const secureOptions = constants.SSL_OP_NO_TICKET;
  return { ca, cert, key, minVersion, secureOptions, requestCert: true, rejectUnauthorized: false };
}

type DialOptions = ReturnType<typeof tlsOptions> & { checkServerIdentity(): undefined };

/** Addresses change, nodes do not: `checkCertificate` looks for the node. */
const checkServerIdentity = (): undefined => undefined;

/**
 * TLS on a connection that is being made. `connect` is told once the other end has shown the
 * certificate of the node that is dialled; else `error`, AuthFailed or TlsMismatch.
 * @param handshake begins it on `raw`, which is connected
 */
export function securely(
  raw: ByteSocket,
  security: Security,
  handshake: (options: DialOptions) => Dialled,
): ByteSocket {
  const late = new LateSocket(raw);
  raw.on('connect', () => {
    const socket = handshake({ ...tlsOptions(security.tls), checkServerIdentity });
    let isSecure = false;
    socket.on('error', (error) => {
      if (!isSecure) late.failed(tlsFailure(error));
    });
    socket.on('secureConnect', () => {
      isSecure = true;
      try {
        const proven = provenBy(socket, security.tls.ca);
        checkCertificate(proven, security);
        late.opened(socket, proven);
      } catch (error) {
        late.refused(socket, error);
        return;
      }
      late.emit('connect');
    });
  });
  return late;
}
