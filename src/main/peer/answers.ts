/**
 * The answering side of a peer call, on the connection that follow/connection.ts has greeted:
 * one question after the other, each given to its handler, whose frames are sent as the peer
 * takes them.
 */
import { EngramError, failure } from '../../shared/errors.js';
import { PEER_CALL_MAX_MS } from '../../shared/limits.js';
import type { Frame, PlainFrame } from '../../shared/wire/protocol.js';

/** Who asks. */
export interface Peer {
  readonly nodeId: string;
  /** The longest body that it takes. */
  readonly maxFrameBytes: number;
}

/** Answers one kind of question with frames, in order; what it throws is told to the peer. */
export type PeerHandler<K extends Frame['kind']> = (
  question: Extract<Frame, { kind: K }>,
  peer: Peer,
) => AsyncIterable<PlainFrame> | Iterable<PlainFrame>;

/** By the kind of the question. */
export type PeerHandlers = { readonly [K in Frame['kind']]?: PeerHandler<K> };

/** The node that is asked. */
export interface PeerHost {
  readonly peers: PeerHandlers;
  readonly readTimeoutMs: number;
  /** What a peer's question names of epochs. */
  heardIn(frame: Frame, peerId: string): void;
  /** Whether it may be told of the space with this id. */
  mayReplicate(nodeId: string, id: string): boolean;
}

export class PeerConnection {
  readonly #host: PeerHost;
  readonly #peer: Peer;
  /** Resolves when the system has taken the frame, or the connection has ended. */
  readonly #send: (frame: PlainFrame) => Promise<void>;
  readonly #isEnded: () => boolean;
  readonly #sinceMs = performance.now();
  #heardMs = this.#sinceMs;
  #isAnswering = false;

  constructor(
    host: PeerHost,
    peer: Peer,
    send: (frame: PlainFrame) => Promise<void>,
    isEnded: () => boolean,
  ) {
    this.#host = host;
    this.#peer = peer;
    this.#send = send;
    this.#isEnded = isEnded;
  }

  get nodeId(): string {
    return this.#peer.nodeId;
  }

  /**
   * Takes a question. Throws ProtocolViolation for what is none.
   * @returns when to go on reading
   */
  take(frame: Frame): Promise<void> {
    const { peers, heardIn, mayReplicate } = this.#host;
    const handler = peers[frame.kind] as PeerHandler<Frame['kind']> | undefined;
    if (!handler) throw failure('ProtocolViolation', `a frame ${frame.kind} from a peer that asks`);
    const { nodeId } = this;
    const question = allowedOf(frame, (id) => mayReplicate(nodeId, id));
    if (question) heardIn(question, nodeId);
    this.#isAnswering = true;
    const answer = question ? handler : notHere;
    return this.#answer(answer, question ?? frame).finally(() => {
      this.#isAnswering = false;
      this.#heardMs = performance.now();
    });
  }

  async #answer(handler: PeerHandler<Frame['kind']>, question: Frame): Promise<void> {
    try {
      for await (const part of handler(question, this.#peer)) {
        if (this.#isEnded()) return;
        await this.#send(part);
      }
    } catch (error) {
      if (!(error instanceof EngramError)) throw error;
      const message = error.message.split('\n', 1)[0]!.slice(0, 200);
      await this.#send({ kind: 'peer-declined', code: error.code, message });
      return;
    }
    await this.#send({ kind: 'peer-done' });
  }

  /** @returns why the call must end; undefined while it may go on */
  overdue(nowMs: number): string | undefined {
    if (nowMs - this.#sinceMs >= PEER_CALL_MAX_MS) return 'a peer call takes too long';
    if (this.#isAnswering || nowMs - this.#heardMs < this.#host.readTimeoutMs) return undefined;
    return 'a peer call asks nothing';
  }
}

/** The part of a question that is about spaces of which the peer may hear; undefined: nothing. */
function allowedOf(question: Frame, may: (id: string) => boolean): Frame | undefined {
  switch (question.kind) {
    case 'standing-ask':
    case 'tip-ask':
      return { ...question, ids: question.ids.filter(may) };
    case 'promises':
      return { ...question, rows: question.rows.filter(({ id }) => may(id)) };
    case 'promise':
    case 'take-over':
    case 'entries-ask':
    case 'append-ask':
      return may(question.id) ? question : undefined;
    // About no space.
    case 'glance-ask':
      return question;
    // A kind that is to be answered has a case of its own.
    default:
      return undefined;
  }
}

/** As of a space that nobody knows. */
const notHere: PeerHandler<Frame['kind']> = () => {
  throw failure('SpaceUnknown', 'it is not here, or not for this node');
};
