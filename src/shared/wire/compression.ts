/**
 * The body of a batch on the wire, compressed: what this Node can do, what two ends agree on, and
 * both ways of it. A batch says how many bytes it has become of; no other word of a peer decides
 * what is allocated.
 *
 *   1 zstd   one zstd frame (zstd.ts)
 *   2 lz4    u32 LE, total_size once more; then one LZ4 block
 */
import { createRequire } from 'node:module';
import { failure } from '../errors.js';
import {
  hasPackagedZstd,
  loadPackagedZstd,
  nodeZstd,
  ZSTD_PACKAGE,
  type ZstdCalls,
} from './zstd.js';

export type Compression = 'none' | 'zstd' | 'lz4';

/** As byte 54 of a batch header has it. */
export const CompressionCode = { none: 0, zstd: 1, lz4: 2 } as const;

/** Bits of the features word of hello (what the sender would use) and welcome (what it may). */
const FEATURES: Readonly<Record<Compression, number>> = { none: 0, zstd: 1, lz4: 2 };

/** Less is not worth a try: headers of a batch and a codec's own bytes eat the gain. */
const WORTHWHILE_BYTES = 128;

export interface Codec {
  readonly name: Compression;
  readonly code: number;
  compress(bytes: Uint8Array): Uint8Array;
  /** Never gives, nor holds, more than `size` bytes, whatever `bytes` say. Throws anything. */
  decompress(bytes: Uint8Array, size: number): Uint8Array;
}

function lz4(): Codec | undefined {
  let lib: typeof import('lz4-napi');
  try {
    // Loaded by the first node that compresses, or is sent something compressed.
    lib = createRequire(import.meta.url)('lz4-napi');
  } catch {
    return undefined;
  }
  return {
    name: 'lz4',
    code: CompressionCode.lz4,
    compress: (bytes) =>
      lib.compressSync(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)),
    decompress: (bytes, size) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      // The library allocates by this word.
      const claimed = bytes.length < 4 ? -1 : view.getUint32(0, true);
      if (claimed !== size) throw new Error(`an LZ4 block of ${claimed} bytes`);
      return lib.uncompressSync(bytes);
    },
  };
}

function zstd(calls: ZstdCalls | undefined): Codec | undefined {
  return calls && { name: 'zstd', code: CompressionCode.zstd, ...calls };
}

const made = new Map<Compression, Codec | undefined>();

/** @returns undefined for none, where this Node or platform cannot, and before it is loaded */
export function codecOf(name: Compression): Codec | undefined {
  if (name === 'none') return undefined;
  if (!made.has(name)) made.set(name, name === 'zstd' ? zstd(nodeZstd()) : lz4());
  return made.get(name);
}

/** What takes time to load of what decides about `features`; undefined where nothing does. */
export function loadCodecs(features: number): Promise<void> | undefined {
  if ((features & FEATURES.zstd) === 0 || codecOf('zstd') || !hasPackagedZstd()) return undefined;
  return loadPackagedZstd().then((calls) => {
    made.set('zstd', zstd(calls));
  });
}

/** Why this node cannot compress so; undefined where it can. */
export function compressionProblem(name: Compression): string | undefined {
  if (name === 'none' || codecOf(name)) return undefined;
  if (name === 'lz4') {
    return "compression: 'lz4' needs the binary of lz4-napi for this system: npm install lz4-napi";
  }
  if (hasPackagedZstd()) return undefined;
  return `compression: 'zstd' needs Node.js 22.15 or newer, or npm install ${ZSTD_PACKAGE}`;
}

/** The feature that a primary asks for in its hello. */
export function featureOf(name: Compression): number {
  return FEATURES[name];
}

/** Of the features that a primary asks for, those of a compression that this node can undo. */
export function takenFeatures(asked: number): number {
  let taken = 0;
  for (const name of ['zstd', 'lz4'] as const) {
    if ((asked & FEATURES[name]) !== 0 && codecOf(name)) taken |= FEATURES[name];
  }
  return taken;
}

/** What a primary uses that would like `name`, with a replica that has answered `features`. */
export function agreedCodec(name: Compression, features: number): Codec | undefined {
  return (features & FEATURES[name]) === 0 ? undefined : codecOf(name);
}

/** Whether batches with this code were agreed on. */
export function isAgreed(code: number, features: number): boolean {
  if (code === CompressionCode.none) return true;
  const name = nameOf(code);
  return name !== undefined && (features & FEATURES[name]) !== 0;
}

function nameOf(code: number): 'zstd' | 'lz4' | undefined {
  if (code === CompressionCode.zstd) return 'zstd';
  return code === CompressionCode.lz4 ? 'lz4' : undefined;
}

/** @returns undefined where it would not become smaller */
export function compressed(codec: Codec, bytes: Uint8Array): Uint8Array | undefined {
  if (bytes.length < WORTHWHILE_BYTES) return undefined;
  const made = codec.compress(bytes);
  return made.length < bytes.length ? made : undefined;
}

/**
 * The entries of a batch whose code was agreed on, exactly `size` bytes, which the caller has
 * checked against its cap. Throws InvalidBatchSize for any other number of bytes, and for what does
 * not decompress: its batch_crc was right, so the sender has made it so.
 */
export function decompressed(code: number, bytes: Uint8Array, size: number): Uint8Array {
  const codec = codecOf(nameOf(code) ?? 'none');
  if (!codec) throw failure('InvalidBatchSize', `a batch of compression ${code}`);
  let entries: Uint8Array;
  try {
    entries = codec.decompress(bytes, size);
  } catch (cause) {
    throw failure('InvalidBatchSize', `a batch that is no ${codec.name} of ${size} bytes`, {
      cause,
    });
  }
  if (entries.length !== size) {
    throw failure('InvalidBatchSize', `a batch of ${entries.length} bytes, announced ${size}`);
  }
  return entries;
}
