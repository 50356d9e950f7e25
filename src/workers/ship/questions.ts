/** Whether a replica knows spaces: questions of main that are on their way, or wait for a link. */
import type { AnswerRow, AskedSpace, FromShipper } from '../../shared/link/control.js';
import type { Frame, PlainFrame } from '../../shared/wire/protocol.js';

export class Questions {
  /** By the id of the space: its name. */
  readonly #asked = new Map<string, string>();
  /** Answers that came in this turn: thousands of spaces are made in a moment. */
  #answers: AnswerRow[] = [];
  readonly #tell: (message: FromShipper) => void;
  readonly #send: (frames: readonly PlainFrame[]) => void;

  constructor(tell: (message: FromShipper) => void, send: (frames: readonly PlainFrame[]) => void) {
    this.#tell = tell;
    this.#send = send;
  }

  /** @param link `away`: there is none, and none is dialled: nobody answers */
  ask(spaces: readonly AskedSpace[], link: 'open' | 'dialled' | 'away'): void {
    if (link === 'away') {
      this.#tell({ kind: 'answers', rows: spaces.map(({ id }) => ({ id, answer: undefined })) });
      return;
    }
    for (const { id, name } of spaces) this.#asked.set(id, name);
    if (link === 'open') this.#send(spaces.map(({ id, name }) => ({ kind: 'ask', id, name })));
  }

  opened(): void {
    if (this.#asked.size === 0) return;
    this.#send([...this.#asked].map(([id, name]) => ({ kind: 'ask', id, name })));
  }

  answered({ id, known, epoch, primary }: Extract<Frame, { kind: 'answer' }>): void {
    this.#asked.delete(id);
    if (this.#answers.length === 0) setImmediate(() => this.#tellAnswers());
    this.#answers.push({ id, answer: { known, epoch, primary } });
  }

  #tellAnswers(): void {
    const rows = this.#answers;
    this.#answers = [];
    if (rows.length > 0) this.#tell({ kind: 'answers', rows });
  }

  dropped(): void {
    this.#tellAnswers();
    if (this.#asked.size === 0) return;
    const rows = [...this.#asked.keys()].map((id) => ({ id, answer: undefined }));
    this.#asked.clear();
    this.#tell({ kind: 'answers', rows });
  }
}
