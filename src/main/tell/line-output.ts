/**
 * Where a process' own log goes. Whoever reads it may be slow, stopped or gone, the disk may be
 * full: then lines are dropped and counted, and nobody waits for them (FAULTS row 95). A pipe or
 * socket is written to as it takes bytes, a file at once; a terminal that is held is not waited
 * for.
 */
import fs from 'node:fs';

/** What may wait for a slow reader. */
const WAITING_MAX_BYTES = 1024 * 1024;
/** How long the last lines may take, when the process ends. */
const END_MS = 1_000;

export class LineOutput {
  readonly #write: (line: string, room?: number) => boolean;
  #dropped = 0;
  #untold = 0;

  constructor() {
    const kind = fs.fstatSync(process.stdout.fd);
    const isStream = kind.isFIFO() || kind.isSocket();
    this.#write = isStream ? toStream : toFile(kind.isFile() ? process.stdout.fd : heldFd());
    // Of a reader that is gone.
    process.stdout.on('error', () => undefined);
    process.stderr.on('error', () => undefined);
  }

  /** Lines that nobody will ever see. */
  get dropped(): number {
    return this.#dropped;
  }

  write(line: string): void {
    // With room for more than itself: a slow reader is to get lines, not gaps.
    const isTold = this.#untold > 0 && this.#write(this.#gap(), WAITING_MAX_BYTES / 2);
    if (isTold) this.#untold = 0;
    if (this.#untold === 0 && this.#write(line)) return;
    this.#dropped++;
    this.#untold++;
  }

  #gap(): string {
    const msg = `${this.#untold} lines were dropped: the log's output took none`;
    const line = { level: 40, time: Date.now(), event: 'lines-dropped', count: this.#untold, msg };
    return `${JSON.stringify(line)}\n`;
  }

  /** Resolves when the last lines are taken, or are not within a second. */
  async end(): Promise<void> {
    const deadlineMs = performance.now() + END_MS;
    while (process.stdout.writableLength > 0 && !process.stdout.destroyed) {
      if (performance.now() > deadlineMs) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

/** @param room that there must be, where the line itself needs less */
function toStream(line: string, room = 0): boolean {
  const { stdout } = process;
  const after = stdout.writableLength + Math.max(room, line.length);
  if (stdout.destroyed || after > WAITING_MAX_BYTES) return false;
  stdout.write(line);
  return true;
}

function toFile(fd: number): (line: string) => boolean {
  return (line) => {
    try {
      let rest = Buffer.from(line);
      while (rest.length > 0) rest = rest.subarray(fs.writeSync(fd, rest));
      return true;
    } catch {
      // A full disk, or a terminal that is held: the rest of a line is lost with it.
      return false;
    }
  };
}

/** The terminal once more, so that a write to it never waits; the fd itself where it cannot be. */
function heldFd(): number {
  try {
    const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = fs.constants;
    return fs.openSync(`/proc/self/fd/${process.stdout.fd}`, O_WRONLY | O_NONBLOCK | O_NOCTTY);
  } catch {
    return process.stdout.fd;
  }
}
