import type { Proven } from './tls/certificates.js';

/** What both ends of a link use of a socket; a `net.Socket` is one, and so is a simulated one. */
export interface ByteSocket {
  readonly destroyed: boolean;
  /** By its certificate; undefined: a plain socket, or one whose other end is not accepted. */
  readonly proven?: Proven | undefined;
  /** Of the other side; undefined: there is none, or it is not known any more. */
  readonly remoteAddress?: string | undefined;
  /** Bytes handed over and not yet taken by the other side's system. */
  readonly writableLength: number;
  /** `end`: the other side sends no more. One that was accepted stays open until this side ends. */
  on(event: 'connect' | 'end' | 'close', heard: () => void): unknown;
  on(event: 'data', heard: (chunk: Uint8Array) => void): unknown;
  on(event: 'error', heard: (error: Error) => void): unknown;
  /** `done` is called when the system has taken the bytes, or the socket has ended. */
  write(bytes: Uint8Array, done?: () => void): boolean;
  pause(): unknown;
  resume(): unknown;
  end(): unknown;
  destroy(): unknown;
  /** Ends when all that was written has been taken. */
  destroySoon(): void;
}
