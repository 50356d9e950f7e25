/**
 * The words through which main asks the log's writer thread for one system call at a time. Main
 * writes all of them but `callMs`, which is the thread's; it answers each by a message.
 */
export const WORD = { asked: 0, op: 1 } as const;
export const NUMBER = { fd: 0, offset: 1, length: 2, position: 3, callMs: 8 } as const;
export const WORDS = 16;
export const NUMBERS = 16;

export const OP_WRITE = 1;
export const OP_SYNC = 2;
/** Both, for a group that nothing but its fdatasync follows. */
export const OP_WRITE_SYNC = 3;
export const OP_END = 4;

/** The answer to a call: null, or why it failed. */
export interface WriterFailure {
  readonly message: string;
  readonly code: string | undefined;
  readonly isSync: boolean;
}

/** The thread's first word: it waits for calls. */
export const WRITER_BEGINS = 'engram-wal log writer';
export type WriterAnswer = typeof WRITER_BEGINS | WriterFailure | null;

export interface WriterStart {
  readonly words: SharedArrayBuffer;
  readonly numbers: SharedArrayBuffer;
  /** What is written stands here. */
  readonly slabs: SharedArrayBuffer;
}
