/** What a peer is to the benchmark, and the folders that its servers get. */
import { chmodSync, mkdirSync } from 'node:fs';
import path from 'node:path';

/** Servers that run, and how the client finds them. */
export interface Cluster {
  /** What the client of this peer is told. */
  readonly at: object;
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

/** One way to write to a peer: a row of the table. */
export interface Way {
  readonly what: string;
  /** What the client is told besides. */
  readonly how?: string;
  /** Entries of a request. */
  readonly batch: number;
  readonly inFlight: number;
}

export interface Peer {
  readonly name: string;
  /** Of bench/peers/clients. */
  readonly client: string;
  /** What an acknowledgement means, three nodes or a client and two. */
  readonly promise: string;
  readonly ways: readonly Way[];
  readonly version: () => string | undefined;
  /** How to have it, where `version` knows none. */
  readonly howToHaveIt: string;
  /** Starts it on an empty folder, three nodes in all. */
  readonly start: (root: string) => Promise<Cluster>;
}

/** Folders of three nodes. Others than this user may pass through their parent. */
export function foldersOf(root: string): [string, string, string] {
  chmodSync(root, 0o711);
  const folders = [0, 1, 2].map((n) => path.join(root, `n${n}`));
  for (const folder of folders) mkdirSync(folder);
  return folders as [string, string, string];
}
