/** Hello, welcome and proof on a link to a replica, as who dials sees them; one after the other. */
import { randomBytes } from 'node:crypto';
import { type ErrorCode, firstLine } from '../../shared/errors.js';
import type { ShipperStart } from '../../shared/link/control.js';
import { CHANCE_BYTES, DiallerAuth, nonceOf } from '../../shared/wire/auth.js';
import { directoryOf, helloOf, welcomeProblem } from '../../shared/wire/greeting.js';
import type { PlainFrame, Welcome } from '../../shared/wire/protocol.js';
import {
  type Credentials,
  isStillProved,
  type Proven,
  type Security,
} from '../../shared/wire/tls/certificates.js';

/** What a welcome has come to. */
export type Greeted =
  | { readonly problem: { readonly reason: string; readonly code: ErrorCode } }
  | {
      readonly problem?: undefined;
      /** Of our key; undefined where neither end has one. */
      readonly proof: Uint8Array | undefined;
      /** By another process than the one that welcomed us last. */
      readonly isNewLife: boolean;
      readonly directoryId: string | undefined;
    };

export class Handshake {
  readonly #start: ShipperStart;
  readonly #frameBytes: number;
  #auth: DiallerAuth | undefined;
  #proven: Proven | undefined;
  #life: bigint | undefined;
  /** In force from now on. */
  credentials: Credentials;
  /** That the newest connection speaks. */
  version = 1;

  constructor(start: ShipperStart, frameBytes: number) {
    this.#start = start;
    this.#frameBytes = frameBytes;
    this.credentials = start.credentials;
  }

  /** With what the replica is dialled; undefined: without TLS. */
  get security(): Security | undefined {
    const { clusterId, replica } = this.#start;
    const { tls } = this.credentials;
    return tls && { tls, clusterId, nodeId: replica.nodeId };
  }

  /** On a connection that has just been made. */
  hello(proven: Proven | undefined): PlainFrame {
    const { clusterId, nodeId, directoryId, replica } = this.#start;
    const parties = { clusterId, dialler: nodeId, listener: replica.nodeId };
    const nonce = nonceOf(directoryId, randomBytes(CHANCE_BYTES));
    this.#auth = new DiallerAuth(this.credentials.keys, parties, nonce, proven?.channel);
    this.#proven = proven;
    return { kind: 'hello', hello: helloOf(this.#start, this.#frameBytes, this.#auth.hello) };
  }

  /** What the other end of the newest connection has proved itself by is in force. */
  get isProved(): boolean {
    return isStillProved({ proven: this.#proven, key: this.#auth?.key }, this.credentials);
  }

  welcomed(welcome: Welcome): Greeted {
    const problem = welcomeProblem(welcome, this.#start, this.#frameBytes);
    if (problem) return { problem };
    const { auth, version, incarnation } = welcome;
    let proof: Uint8Array | undefined;
    try {
      proof = this.#auth!.welcomed(auth, version);
    } catch (error) {
      return { problem: { reason: firstLine(error as Error), code: 'AuthFailed' } };
    }
    const isNewLife = this.isNewLife(incarnation);
    this.#life = incarnation;
    this.version = version;
    return { proof, isNewLife, directoryId: directoryOf(version, auth) };
  }

  isNewLife(incarnation: bigint): boolean {
    return this.#life !== incarnation;
  }
}
