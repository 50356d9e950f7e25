/**
 * Asks other members, each on a short connection of its own: dialled, greeted, asked, closed. It
 * follows nothing and takes nobody's place. What may be asked: shared/wire/peer-frames.ts.
 */
import { randomBytes } from 'node:crypto';
import {
  EngramError,
  ERROR_CODES,
  type ErrorCode,
  type ErrorDetails,
  failure,
  firstLine,
} from '../../shared/errors.js';
import { HELLO_FRAME_MAX_BYTES, PEER_ANSWER_MAX_BYTES } from '../../shared/limits.js';
import type { Member } from '../../shared/log/node-record.js';
import { CHANCE_BYTES, DiallerAuth, nonceOf } from '../../shared/wire/auth.js';
import type { ByteSocket } from '../../shared/wire/byte-socket.js';
import { FrameAssembler } from '../../shared/wire/frame.js';
import { directoryOf, isSpoken, SPOKEN } from '../../shared/wire/greeting.js';
import { FEATURE_GLANCE, FEATURE_PEER_CALL } from '../../shared/wire/peer-frames.js';
import {
  decodeFrame,
  encodeFrame,
  FRAME_KINDS,
  type Frame,
  type PlainFrame,
} from '../../shared/wire/protocol.js';
import { type CredentialsNow, isStillProved } from '../../shared/wire/tls/certificates.js';
import type { Sockets } from '../runtime/machine.js';

/** As whom a node asks, and what it takes. */
export interface PeerIdentity {
  readonly clusterId: string;
  readonly nodeId: string;
  readonly incarnation: bigint;
  readonly directoryId: string;
  readonly maxEntryBytes: number;
  readonly maxFrameBytes: number;
  readonly readTimeoutMs: number;
  readonly keepAliveMs: number;
  readonly credentials: CredentialsNow;
}

export type AnswerHeard = (frame: Frame, member: Member) => void;

/** Frames of one kind. */
export type FrameOf<K extends Frame['kind']> = Extract<Frame, { kind: K }>;

export class PeerClient {
  readonly #sockets: Sockets;
  readonly #own: PeerIdentity;
  readonly #heard: AnswerHeard;
  readonly #calls = new Set<PeerCall>();
  #isClosed = false;

  /** @param heard gets each frame of an answer, before who has asked does */
  constructor(sockets: Sockets, own: PeerIdentity, heard: AnswerHeard = () => undefined) {
    this.#sockets = sockets;
    this.#own = own;
    this.#heard = heard;
  }

  /**
   * One connection, one question.
   * @param kinds the frames that the answer may consist of
   * @param timeoutMs for all of it, from dialling on
   * @returns the frames of the answer, in order; at most 16 MiB of them
   * Rejects ConnectionRefused (nobody listens there), ConnectionTimeout (silent, or too slow),
   * ConnectionLost (ended before the answer was complete), WrongCluster, WrongNode,
   * UnsupportedVersion, ProtocolViolation, ChecksumMismatch, Closed, or as the peer declines.
   */
  async ask<K extends Frame['kind']>(
    member: Member,
    question: PlainFrame,
    kinds: readonly K[],
    timeoutMs: number,
  ): Promise<FrameOf<K>[]> {
    const deadline = performance.now() + timeoutMs;
    const call = await this.open(member, timeoutMs);
    try {
      return await call.ask(question, kinds, deadline - performance.now());
    } finally {
      call.close();
    }
  }

  /** A greeted connection for several questions; the caller closes it. Rejects as `ask` does. */
  async open(member: Member, timeoutMs: number): Promise<PeerCall> {
    if (this.#isClosed) throw failure('Closed', 'a question to a member by a closed node');
    const { keepAliveMs, clusterId, credentials } = this.#own;
    const { tls } = credentials.now;
    const security = tls && { tls, clusterId, nodeId: member.nodeId };
    const socket = this.#sockets.connect(member, keepAliveMs, security);
    const ended = (): unknown => this.#calls.delete(call);
    const call: PeerCall = new PeerCall(socket, member, this.#own, this.#heard, ended);
    this.#calls.add(call);
    await call.greet(timeoutMs);
    return call;
  }

  /** Keys or certificates were read anew: whoever has proved itself by others is asked no more. */
  renewed(): void {
    for (const call of [...this.#calls]) if (!call.isProved) call.fail(call.withdrawn());
  }

  /** Ends all calls, now and from now on. */
  close(): void {
    this.#isClosed = true;
    for (const call of [...this.#calls]) call.fail(failure('Closed', 'the node is closed'));
  }
}

/** What a call waits for. */
interface Waiting {
  take(frame: Frame): void;
  reject(error: Error): void;
}

export class PeerCall {
  readonly #socket: ByteSocket;
  readonly #member: Member;
  readonly #own: PeerIdentity;
  readonly #assembler = new FrameAssembler(HELLO_FRAME_MAX_BYTES);
  readonly #answered: AnswerHeard;
  readonly #ended: () => void;
  #auth: DiallerAuth | undefined;
  #waiting: Waiting | undefined;
  #isConnected = false;
  #failure: Error | undefined;
  /** Of the node that answers; undefined before its welcome, and where it speaks version 1. */
  directoryId: string | undefined;
  /** Of the protocol, as agreed on. */
  version = 1;
  /** The other end knows `glance-ask`. */
  knowsGlance = false;
  /** Bytes of the answer that is under way. */
  #bytes = 0;

  /** @param ended called once, when the connection is of no use any more */
  constructor(
    socket: ByteSocket,
    member: Member,
    own: PeerIdentity,
    answered: AnswerHeard,
    ended: () => void,
  ) {
    this.#socket = socket;
    this.#member = member;
    this.#own = own;
    this.#answered = answered;
    this.#ended = ended;
    let cause: Error | undefined;
    socket.on('connect', () => this.#connected());
    socket.on('data', (chunk) => this.#heard(chunk));
    socket.on('error', (error) => {
      cause = error;
      if (error instanceof EngramError) this.#refuse(error);
    });
    socket.on('close', () => this.fail(this.#lost(cause)));
  }

  /** What the other end has proved itself by, as far as it has, is in force. */
  get isProved(): boolean {
    const proof = { proven: this.#socket.proven, key: this.#auth?.key };
    return isStillProved(proof, this.#own.credentials.now);
  }

  withdrawn(): Error {
    return failure('AuthFailed', `${this.#name}: what it has proved itself by counts no more`);
  }

  /** It takes no more questions. */
  get isOver(): boolean {
    return this.#failure !== undefined;
  }

  get #name(): string {
    const { nodeId, host, port } = this.#member;
    return `${nodeId} at ${host}:${port}`;
  }

  #lost(cause: Error | undefined): Error {
    const code = this.#isConnected ? 'ConnectionLost' : 'ConnectionRefused';
    return failure(code, `${this.#name}: ${cause?.message ?? 'it closed the connection'}`, {
      cause,
    });
  }

  /** The other end is not who was dialled, and is told so. */
  #refuse(error: EngramError): void {
    const message = firstLine(error);
    this.#socket.write(encodeFrame({ kind: 'bye', fatal: true, code: error.code, message }));
    this.#socket.destroySoon();
    this.#end(failure(error.code, `${this.#name}: ${message}`, { cause: error }));
  }

  #connected(): void {
    this.#isConnected = true;
    const { clusterId, nodeId, incarnation, maxFrameBytes, maxEntryBytes } = this.#own;
    const { credentials, directoryId } = this.#own;
    const parties = { clusterId, dialler: nodeId, listener: this.#member.nodeId };
    const nonce = nonceOf(directoryId, randomBytes(CHANCE_BYTES));
    const { proven } = this.#socket;
    this.#auth = new DiallerAuth(credentials.now.keys, parties, nonce, proven?.channel);
    const caps = { maxFrameBytes, maxEntryBytes };
    const peerId = this.#member.nodeId;
    const features = FEATURE_PEER_CALL | FEATURE_GLANCE;
    const { hello: auth } = this.#auth;
    const who = { clusterId, nodeId, peerId, incarnation };
    const hello = { ...SPOKEN, ...who, features, ...caps, auth };
    this.#socket.write(encodeFrame({ kind: 'hello', hello }));
  }

  /** Resolves when the peer has welcomed us. */
  greet(timeoutMs: number): Promise<void> {
    return this.#wait<void>(timeoutMs, (frame, resolve) => {
      if (frame.kind !== 'welcome') throw this.#unexpected(frame);
      const { clusterId, nodeId, features, version, auth } = frame.welcome;
      if (clusterId !== this.#own.clusterId || nodeId !== this.#member.nodeId) {
        const code = clusterId !== this.#own.clusterId ? 'WrongCluster' : 'WrongNode';
        throw failure(code, `${this.#name} is ${nodeId} of cluster ${clusterId}`);
      }
      if ((features & FEATURE_PEER_CALL) === 0) {
        throw failure('UnsupportedVersion', `${this.#name} takes no questions`);
      }
      if (!isSpoken(version)) {
        throw failure('UnsupportedVersion', `${this.#name} chose version ${version}`);
      }
      const proof = this.#auth!.welcomed(auth, version);
      // While it proved itself, files may have been read anew.
      if (!this.isProved) throw this.withdrawn();
      this.version = version;
      this.knowsGlance = (features & FEATURE_GLANCE) !== 0;
      this.directoryId = directoryOf(version, auth);
      if (proof) this.#socket.write(encodeFrame({ kind: 'proof', proof }));
      this.#assembler.setCap(this.#own.maxFrameBytes);
      resolve();
    });
  }

  /**
   * One question; the next one may follow when it is settled. See `PeerClient.ask`.
   * @param heard told of each frame of the answer as it comes; @returns how long the next may take
   */
  ask<K extends Frame['kind']>(
    question: PlainFrame,
    kinds: readonly K[],
    timeoutMs: number,
    heard?: (part: FrameOf<K>) => number,
  ): Promise<FrameOf<K>[]> {
    const parts: FrameOf<K>[] = [];
    this.#bytes = 0;
    const answered = this.#wait<FrameOf<K>[]>(timeoutMs, (frame, resolve, reject, goOn) => {
      if (frame.kind === 'peer-done') resolve(parts);
      else if (frame.kind === 'peer-declined') reject(declined(frame.code, frame.message));
      else if ((kinds as readonly string[]).includes(frame.kind)) {
        this.#answered(frame, this.#member);
        if (heard) goOn(heard(frame as FrameOf<K>));
        else parts.push(frame as FrameOf<K>);
      } else throw this.#unexpected(frame);
    });
    if (!this.#failure) this.#socket.write(encodeFrame(question, this.version));
    return answered;
  }

  #unexpected(frame: Frame): Error {
    if (frame.kind === 'bye') return declined(frame.code, frame.message);
    return failure('ProtocolViolation', `a frame ${frame.kind} from ${this.#name}`);
  }

  #wait<T>(
    timeoutMs: number,
    take: (
      frame: Frame,
      resolve: (value: T) => void,
      reject: (error: Error) => void,
      goOn: (timeoutMs: number) => void,
    ) => void,
  ): Promise<T> {
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise<T>((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const goOn = (ms: number): void => {
        clearTimeout(timer);
        const late = (): void => {
          const waitedMs = Math.round(ms);
          this.fail(failure('ConnectionTimeout', `${this.#name}: no answer in ${waitedMs} ms`));
        };
        timer = setTimeout(late, ms);
      };
      goOn(timeoutMs);
      const settle = (): void => {
        clearTimeout(timer);
        this.#waiting = undefined;
      };
      const done = (value: T): void => {
        settle();
        resolve(value);
      };
      const failed = (error: Error): void => {
        settle();
        reject(error);
      };
      this.#waiting = { take: (frame) => take(frame, done, failed, goOn), reject: failed };
    });
  }

  #heard(chunk: Uint8Array): void {
    try {
      this.#assembler.feed(chunk, (kind, body) => {
        this.#bytes += body.length;
        if (this.#bytes > PEER_ANSWER_MAX_BYTES) {
          throw failure('ProtocolViolation', `an answer of ${this.#bytes} bytes and more`);
        }
        // The assembler uses its buffer again; what is asked for is kept.
        const frame = decodeFrame(kind, kind === FRAME_KINDS.entries ? body.slice() : body);
        if (!this.#waiting) throw this.#unexpected(frame);
        this.#waiting.take(frame);
        return !this.#failure;
      });
    } catch (error) {
      this.fail(error as Error);
    }
  }

  /** Ends the call; what it waits for rejects. */
  fail(error: Error): void {
    if (this.#failure) return;
    this.#socket.destroy();
    this.#end(error);
  }

  #end(error: Error): void {
    this.#failure = error;
    this.#waiting?.reject(error);
    this.#ended();
  }

  close(): void {
    this.fail(failure('Closed', `the call to ${this.#name} is over`));
  }
}

/** What the other end has refused with, under its own code where that is one of ours. */
export function declined(code: string, message: string, more?: ErrorDetails): Error {
  const known = ERROR_CODES.find((c): c is ErrorCode => c === code);
  // A message of ours begins with its code already.
  const text = message.startsWith(`${code}: `) ? message.slice(code.length + 2) : message;
  const found = known ? text : `${code}: ${message}`;
  return failure(known ?? 'ProtocolViolation', found, more);
}
