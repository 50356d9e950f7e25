/** Where things stand: the numbers that every other file speaks in. */

/** Byte position in one node's log. A safe integer. */
export type Lsn = number;
/** Per space, from 1, without gaps; 0 means "none yet". A safe integer. */
export type Sequence = number;
/** Per space, u32, from 1, grows by one at each promotion; 0 is Engram's own files. */
export type Epoch = number;
/** Index of a space in this process's shared tables; 0 is the node itself. Not durable. */
export type Slot = number;

/** The last entry of a space: what two nodes compare to know whether they share a history. */
export interface Position {
  readonly epoch: Epoch;
  readonly sequence: Sequence;
  readonly headerCrc: number;
}

export const NO_POSITION: Position = { epoch: 0, sequence: 0, headerCrc: 0 };

/** One row of a space's epoch history: which node began which epoch at which sequence. */
export interface EpochStart {
  readonly epoch: Epoch;
  readonly startSequence: Sequence;
  /** 16 bytes, lower-case hex. */
  readonly primaryNodeId: string;
  /** Of that node's directory, 32 hex digits; undefined: nobody has told us yet. */
  readonly directoryId?: string | undefined;
}

/** The epoch in which an entry was written, as far as the history tells; 0: it does not. */
export function epochAt(history: readonly EpochStart[], sequence: Sequence): Epoch {
  return history.filter((h) => h.startSequence <= sequence).at(-1)?.epoch ?? 0;
}
