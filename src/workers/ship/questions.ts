/** Whether a replica knows a space: questions of main that are on their way, or wait for a link. */
import type { FromShipper } from '../../shared/link/control.js';
import type { Frame, PlainFrame } from '../../shared/wire/protocol.js';

export class Questions {
  /** By the id of the space: its name. */
  readonly #asked = new Map<string, string>();
  readonly #tell: (message: FromShipper) => void;
  readonly #send: (frame: PlainFrame) => void;

  constructor(tell: (message: FromShipper) => void, send: (frame: PlainFrame) => void) {
    this.#tell = tell;
    this.#send = send;
  }

  /** @param link `away`: there is none, and none is dialled: nobody answers */
  ask(id: string, name: string, link: 'open' | 'dialled' | 'away'): void {
    if (link === 'away') {
      this.#tell({ kind: 'answer', id, answer: undefined });
      return;
    }
    this.#asked.set(id, name);
    if (link === 'open') this.#send({ kind: 'ask', id, name });
  }

  opened(): void {
    for (const [id, name] of this.#asked) this.#send({ kind: 'ask', id, name });
  }

  answered({ id, known, epoch, primary }: Extract<Frame, { kind: 'answer' }>): void {
    this.#asked.delete(id);
    this.#tell({ kind: 'answer', id, answer: { known, epoch, primary } });
  }

  dropped(): void {
    for (const id of this.#asked.keys()) this.#tell({ kind: 'answer', id, answer: undefined });
    this.#asked.clear();
  }
}
