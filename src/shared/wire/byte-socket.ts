import { READ_BUFFER_BYTES } from '../limits.js';
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
  /** The chunk is valid during the call alone: the next read may go to the same memory. */
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

/** Where all plain sockets of a thread are read into: what was read is used up in the same turn. */
let readBuffer: Uint8Array | undefined;

/**
 * The option `onread` of a `net.Socket` that reads into one buffer for good. As a stream, Node
 * reserves memory for each read and takes each chunk through a queue: for an acknowledgement that
 * costs more than all else that its thread does for it.
 * @param socketOf the socket itself, which tells each chunk as `data`
 */
export function readsIntoOneBuffer(socketOf: () => DataEmitter): {
  buffer: Uint8Array;
  callback(bytes: number, buffer: Uint8Array): boolean;
} {
  readBuffer ??= new Uint8Array(READ_BUFFER_BYTES);
  return {
    buffer: readBuffer,
    callback: (bytes, buffer) => {
      socketOf().emit('data', buffer.subarray(0, bytes));
      return true;
    },
  };
}

interface DataEmitter {
  emit(event: 'data', chunk: Uint8Array): boolean;
}
