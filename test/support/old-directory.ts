/** A data directory as the first release (format 1) left it: test/golden/directory-v1. */
import fs from 'node:fs';
import path from 'node:path';
import { inflateRawSync } from 'node:zlib';
import { expect } from 'vitest';
import type { Node } from '#src/main/index.js';
import type { FakeDisk } from './fake-disk.js';

const GOLDEN = path.join(import.meta.dirname, '../golden/directory-v1/directory.json');

/** [sequence, epoch, type, timestamp, payload] */
type GoldenEntry = [number, number, number, string, string];

interface Golden {
  /** What that release said of each space. */
  readonly spaces: Record<
    string,
    { role: string; epoch: number; checkpoint: number; first: number; entries: GoldenEntry[] }
  >;
  /** By name in the directory: base64 of the deflated bytes. */
  readonly files: Record<string, string>;
}

/** Node `a` of cluster `golden`: three spaces, one of them rewound and in its second epoch. */
export const OLD = JSON.parse(fs.readFileSync(GOLDEN, 'utf8')) as Golden;

function* filesOf(): Generator<[name: string, bytes: Buffer]> {
  for (const [name, packed] of Object.entries(OLD.files)) {
    yield [name, inflateRawSync(Buffer.from(packed, 'base64'))];
  }
}

export function putOldDirectory(dir: string): void {
  for (const [name, bytes] of filesOf()) {
    fs.mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
    fs.writeFileSync(path.join(dir, name), bytes, { mode: 0o600 });
  }
}

/** The same, in `/data` of a fake disk, durable. */
export function putOldOnFake(disk: FakeDisk): void {
  disk.restore(new Map());
  for (const [name, bytes] of filesOf()) disk.put(path.join('/data', name), bytes);
}

/**
 * Every space is as that release has left it.
 * @param isCopy the directory has a new id: it leads nothing
 */
export async function expectOld(node: Node, isCopy = false): Promise<void> {
  expect(node.spaces.map((space) => space.name).sort()).toEqual(Object.keys(OLD.spaces).sort());
  for (const [name, old] of Object.entries(OLD.spaces)) {
    const space = node.space(name);
    const { role, epoch, checkpoint, firstSequence } = space.status();
    expect({ role, epoch, checkpoint, first: firstSequence }).toEqual({
      ...{ role: isCopy ? 'replica' : old.role, epoch: old.epoch },
      ...{ checkpoint: old.checkpoint, first: old.first },
    });
    const entries: GoldenEntry[] = [];
    for await (const e of space.read()) {
      const payload = Buffer.from(e.payload).toString();
      entries.push([e.sequence, e.epoch, e.type, String(e.timestamp), payload]);
    }
    expect(entries).toEqual(old.entries);
  }
}
