/**
 * One connection to one etcd endpoint: gRPC, which is HTTP/2 with messages that have their length
 * in front. No retries, no pool: who uses it makes another. It asks DNS each time it is made, and
 * tries every address that it is given.
 */
import http2 from 'node:http2';
import net from 'node:net';
import tls from 'node:tls';
import { ETCD_ANSWER_MAX_BYTES, ETCD_WINDOW_BYTES } from '../../../shared/limits.js';

/** PEM. */
export interface EtcdCertificates {
  /** undefined: those that this Node trusts. */
  readonly ca?: Buffer | undefined;
  readonly cert?: Buffer | undefined;
  readonly key?: Buffer | undefined;
}

/** What etcd has answered instead: a status of gRPC that is not 0. */
export class EtcdRefusal extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message || `gRPC status ${status}`);
  }
}

export interface StreamHooks {
  message(bytes: Uint8Array): void;
  /** Once, unless it was cancelled here. */
  ended(reason: Error): void;
}

export interface GrpcStream {
  send(message: Uint8Array): void;
  cancel(): void;
}

/** A flag (compressed: never asked for) and a length. */
const HEAD_BYTES = 5;
const { NGHTTP2_CANCEL } = http2.constants;

export class GrpcConnection {
  readonly #session: http2.ClientHttp2Session;
  readonly #endpoint: string;
  #failure: Error | undefined;

  /** @param endpoint `http://host:port` or `https://host:port` */
  constructor(endpoint: string, certificates: EtcdCertificates = {}) {
    this.#endpoint = endpoint;
    const settings = { enablePush: false, initialWindowSize: ETCD_WINDOW_BYTES };
    const socket = dialled(endpoint, certificates);
    // The session tells nobody what its socket says while there is no call.
    socket.on('error', (error) => this.#failedBy(error));
    this.#session = http2.connect(endpoint, { settings, createConnection: () => socket });
    this.#session.on('connect', () => {
      if (!this.#session.destroyed) this.#session.setLocalWindowSize(ETCD_WINDOW_BYTES);
    });
    this.#session.on('error', (error) => this.#failedBy(error));
    // etcd goes: what is asked now goes to the next one.
    this.#session.on('goaway', () => {
      this.#failure ??= new Error(`${this.#endpoint} closes its connections`);
      this.#session.destroy();
    });
    let hasAnswered = false;
    this.#session.on('remoteSettings', () => {
      hasAnswered = true;
    });
    this.#session.on('close', () => {
      const hint = endpoint.startsWith('http:') ? ': if it speaks TLS, it is https://' : '';
      const why = hasAnswered ? 'is closed' : `was closed before it began${hint}`;
      this.#failure ??= new Error(`the connection to ${endpoint} ${why}`);
    });
  }

  #failedBy(error: NodeJS.ErrnoException): void {
    this.#failure ??= explained(error, this.#endpoint);
  }

  /** One question and its answer. Rejects EtcdRefusal, or Error where nobody knows. */
  call(path: string, request: Uint8Array, token: string | undefined): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      let answer: Uint8Array | undefined;
      const stream = this.open(path, token, {
        message: (bytes) => {
          answer = bytes;
        },
        ended: (reason) => {
          const isDone = reason instanceof EtcdRefusal && reason.status === 0 && answer;
          if (isDone) resolve(answer!);
          else reject(reason);
        },
      });
      stream.send(request);
      stream.end();
    });
  }

  /** Messages both ways, until one of both ends it. */
  open(path: string, token: string | undefined, hooks: StreamHooks): GrpcStream & { end(): void } {
    let isOver = false;
    const end = (reason: Error): void => {
      if (isOver) return;
      isOver = true;
      if (reason instanceof EtcdRefusal) hooks.ended(reason);
      // What ended the connection is known a moment later, and says more.
      else setImmediate(() => hooks.ended(this.#failure ?? reason));
    };
    let stream: http2.ClientHttp2Stream;
    try {
      stream = this.#session.request({
        ':method': 'POST',
        ':path': path,
        'content-type': 'application/grpc',
        te: 'trailers',
        ...(token === undefined ? {} : { token }),
      });
    } catch (error) {
      end(error as Error);
      return { send: () => undefined, end: () => undefined, cancel: () => undefined };
    }
    const cut = new Messages((bytes) => {
      if (!isOver) hooks.message(bytes);
    });
    const fail = (error: Error): void => {
      stream.close(NGHTTP2_CANCEL);
      end(error);
    };
    stream.on('response', (headers) => {
      const status = headers[':status'];
      if (status !== 200) fail(new Error(`${this.#endpoint} is no etcd: HTTP status ${status}`));
      else if (headers['grpc-status'] !== undefined) end(refusalOf(headers));
    });
    stream.on('data', (chunk: Buffer) => {
      try {
        cut.feed(chunk);
      } catch (error) {
        fail(error as Error);
      }
    });
    stream.on('trailers', (trailers) => end(refusalOf(trailers)));
    stream.on('error', (error: Error) => end(explained(error, this.#endpoint)));
    stream.on('close', () => end(new Error('the stream was closed')));
    return {
      send: (message) => {
        if (!stream.destroyed && !stream.writableEnded) stream.write(framed(message));
      },
      end: () => stream.end(),
      cancel: () => {
        isOver = true;
        stream.close(NGHTTP2_CANCEL);
      },
    };
  }

  /** At once; calls under way reject. */
  close(): void {
    this.#failure ??= new Error('the link to etcd was closed');
    this.#session.destroy();
  }
}

function framed(message: Uint8Array): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

function refusalOf(headers: http2.IncomingHttpHeaders): EtcdRefusal {
  const said = String(headers['grpc-message'] ?? '');
  return new EtcdRefusal(Number(headers['grpc-status'] ?? 2), percentDecoded(said));
}

function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Cuts a stream of bytes into messages. */
class Messages {
  readonly #each: (message: Uint8Array) => void;
  #chunks: Buffer[] = [];
  #bytes = 0;
  /** That must be there before anything can be done. */
  #wanted = HEAD_BYTES;

  constructor(each: (message: Uint8Array) => void) {
    this.#each = each;
  }

  /** Throws Error for what is no message, or one that is too large. */
  feed(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes < this.#wanted) return;
    let all = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    this.#wanted = HEAD_BYTES;
    while (all.length >= HEAD_BYTES) {
      const length = all.readUInt32BE(1);
      if (all[0] !== 0 || length > ETCD_ANSWER_MAX_BYTES) {
        throw new Error(`an answer of ${length} bytes, or a compressed one`);
      }
      this.#wanted = HEAD_BYTES + length;
      if (all.length < this.#wanted) break;
      this.#each(all.subarray(HEAD_BYTES, this.#wanted));
      all = all.subarray(this.#wanted);
      this.#wanted = HEAD_BYTES;
    }
    this.#chunks = all.length > 0 ? [all] : [];
    this.#bytes = all.length;
  }
}

function dialled(endpoint: string, certificates: EtcdCertificates): net.Socket {
  const { protocol, hostname, port } = new URL(endpoint);
  const host = hostname.replace(/^\[|\]$/g, '');
  const way = { host, port: Number(port || 443), noDelay: true };
  if (protocol === 'http:') return net.connect(way);
  const servername = net.isIP(host) === 0 ? { servername: host } : {};
  return tls.connect({ ...way, ...certificates, ...servername, ALPNProtocols: ['h2'] });
}

/** What OpenSSL and HTTP/2 say of the wrong scheme helps nobody. */
function explained(error: NodeJS.ErrnoException, endpoint: string): Error {
  const { code = '', message } = (error.cause as NodeJS.ErrnoException | undefined) ?? error;
  const isTls = endpoint.startsWith('https:');
  const isOdd = isTls
    ? /WRONG_VERSION|LENGTH_TOO_LONG|before secure TLS/.test(`${code} ${message}`)
    : code === 'ERR_HTTP2_ERROR' || code === 'ECONNRESET';
  if (!isOdd) return error;
  const hint = isTls ? 'if it speaks no TLS, it is http://' : 'if it speaks TLS, it is https://';
  return new Error(`${endpoint}: ${message}: ${hint}`, { cause: error });
}
