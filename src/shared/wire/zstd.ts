/**
 * zstd, one frame a call: node:zlib's own from Node 22.15 on; before, that of @foxglove/wasm-zstd,
 * an optional package without a binary of any platform. It loads itself in its own time, and so by
 * the first node of a thread that would use it or is asked whether it could.
 */
import { createRequire } from 'node:module';
import zlib from 'node:zlib';

export const ZSTD_PACKAGE = '@foxglove/wasm-zstd';

export interface ZstdCalls {
  compress(bytes: Uint8Array): Uint8Array;
  /** Never gives, nor holds, more than `size` bytes, whatever `bytes` say. Throws anything. */
  decompress(bytes: Uint8Array, size: number): Uint8Array;
}

/** The part of node:zlib that Node 20 does not have. */
interface NodeZstd {
  zstdCompressSync(bytes: Uint8Array, options: object): Buffer;
  zstdDecompressSync(
    bytes: Uint8Array,
    options: Readonly<Record<string, unknown>> & { info: true },
  ): { buffer: Buffer; engine: { bytesWritten: number } };
  readonly constants: Readonly<Record<string, number>>;
}

/** A level that keeps up with a disk: what is shipped is compressed once per replica. */
const LEVEL = 1;
const LEAST_WINDOW_LOG = 10;

/** @returns undefined where node:zlib has none */
export function nodeZstd(): ZstdCalls | undefined {
  if (!('zstdCompressSync' in zlib)) return undefined;
  const { zstdCompressSync, zstdDecompressSync, constants } = zlib as unknown as NodeZstd;
  return {
    compress: (bytes) =>
      zstdCompressSync(bytes, {
        params: { [constants.ZSTD_c_compressionLevel!]: LEVEL },
        // The frame then needs a window of no more than its own content.
        pledgedSrcSize: bytes.length,
      }),
    decompress: (bytes, size) => {
      const log = Math.max(LEAST_WINDOW_LOG, Math.ceil(Math.log2(size)));
      const { buffer, engine } = zstdDecompressSync(bytes, {
        params: { [constants.ZSTD_d_windowLogMax!]: log },
        maxOutputLength: size,
        info: true,
      });
      if (engine.bytesWritten !== bytes.length) throw new Error('bytes behind the frame');
      return buffer;
    },
  };
}

interface Packaged {
  readonly isLoaded: Promise<unknown>;
  compress(bytes: Uint8Array, level: number): Buffer;
  /** Into a room of `size` bytes, of its own making. */
  decompress(bytes: Uint8Array, size: number): Buffer;
}

function packaged(): Packaged | undefined {
  try {
    return createRequire(import.meta.url)(ZSTD_PACKAGE) as Packaged;
  } catch {
    return undefined;
  }
}

/** Whether the package is there, loaded or not. */
export function hasPackagedZstd(): boolean {
  try {
    createRequire(import.meta.url).resolve(ZSTD_PACKAGE);
    return true;
  } catch {
    return false;
  }
}

/** Resolves when the package may be called; with undefined where it is not there. */
export async function loadPackagedZstd(): Promise<ZstdCalls | undefined> {
  const lib = packaged();
  if (!lib) return undefined;
  await lib.isLoaded;
  return {
    compress: (bytes) => lib.compress(bytes, LEVEL),
    decompress: (bytes, size) => {
      if (frameBytesOf(bytes) !== bytes.length) throw new Error('bytes behind the frame');
      return lib.decompress(bytes, size);
    },
  };
}

const MAGIC = 0xfd2fb528;
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const BLOCK_HEADER_BYTES = 3;
const CHECKSUM_BYTES = 4;
const RLE = 1;

/** So many bytes the frame at the beginning of `bytes` has, by its own words (RFC 8878, 3.1.1). */
export function frameBytesOf(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== MAGIC) throw new Error('no zstd frame');
  const descriptor = view.getUint8(4);
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeBytes = CONTENT_SIZE_BYTES[(descriptor >>> 6) as 0 | 1 | 2 | 3];
  let at = 5 + DICTIONARY_BYTES[(descriptor & 3) as 0 | 1 | 2 | 3];
  // A single segment has no window, and then always a size.
  at += isSingleSegment ? Math.max(1, sizeBytes) : 1 + sizeBytes;
  for (let isLast = false; !isLast; ) {
    const header = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    isLast = (header & 1) !== 0;
    const size = ((header >>> 1) & 3) === RLE ? 1 : header >>> 3;
    at += BLOCK_HEADER_BYTES + size;
  }
  return (descriptor & 4) === 0 ? at : at + CHECKSUM_BYTES;
}
