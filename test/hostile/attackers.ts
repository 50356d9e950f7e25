/** Those who attack: each is one connection, and says so many frames, or as many bytes. */
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';
import { HELLO_FRAME_MAX_BYTES } from '#src/shared/limits.js';
import { DiallerAuth, ListenerAuth, nonceOf } from '#src/shared/wire/auth.js';
import { FEATURE_MIXED } from '#src/shared/wire/batch.js';
import { FrameAssembler } from '#src/shared/wire/frame.js';
import { SPOKEN } from '#src/shared/wire/greeting.js';
import { FEATURE_PEER_CALL } from '#src/shared/wire/peer-frames.js';
import { decodeFrame, encodeFrame, type Frame, type Hello } from '#src/shared/wire/protocol.js';
import type { Chance } from '../support/chance.js';
import type { HostileFrames } from './frames.js';

/** How a connection to a node's port is made, plain or with TLS, and taken on a hostile one. */
export interface Transport {
  /** @param nodeId whose certificate is shown; undefined: none */
  dial(port: number, nodeId: string | undefined): net.Socket;
  listen(nodeId: string, taken: (socket: net.Socket) => void): net.Server;
}

export const PLAIN: Transport = {
  dial: (port) => net.connect({ host: '127.0.0.1', port }),
  listen: (_nodeId, taken) => net.createServer({ noDelay: true }, taken),
};

/** PEM. */
export interface Certificate {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** @param certificates by node id */
export function overTls(certificates: ReadonlyMap<string, Certificate>): Transport {
  return {
    dial: (port, nodeId) => {
      const own = nodeId === undefined ? {} : certificates.get(nodeId);
      return tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...own });
    },
    listen: (nodeId, taken) => tls.createServer({ ...certificates.get(nodeId) }, taken),
  };
}

export interface Identity {
  readonly clusterId: string;
  readonly nodeId: string;
  readonly directoryId: string;
  /** undefined: it has none. */
  readonly key: Buffer | undefined;
}

/** What is counted of all of them. */
export class Counts {
  frames = 0;
  connections = 0;
  /** Connections on which the handshake succeeded. */
  admitted = 0;
  readonly by: Record<string, number> = {};

  connection(how: string): void {
    this.connections++;
    this.by[how] = (this.by[how] ?? 0) + 1;
  }
}

const FRAMES_MAX = 100;
const FRAME_CAP = 4 * 1024 * 1024;
/** After its last byte an attacker waits so long for what becomes of it. */
const LINGER_MS = 30;
/** Nobody who attacks stays longer. */
const LIFE_MS = 4_000;

/** Ends with the connection. @param talk what is said, once it stands */
async function on(socket: net.Socket, talk: () => Promise<void> | void): Promise<void> {
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const end = setTimeout(() => socket.destroy(), LIFE_MS);
  await Promise.race([closed, Promise.resolve(talk()).catch(() => undefined)]);
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, LINGER_MS))]);
  clearTimeout(end);
  socket.destroy();
}

export class Attackers {
  readonly #transport: Transport;
  readonly #frames: HostileFrames;
  readonly chance: Chance;
  counts: Counts;

  constructor(transport: Transport, frames: HostileFrames, chance: Chance, counts: Counts) {
    this.#transport = transport;
    this.#frames = frames;
    this.chance = chance;
    this.counts = counts;
  }

  #some(): Buffer {
    const count = 1 + this.chance(FRAMES_MAX);
    this.counts.frames += count;
    return Buffer.concat(Array.from({ length: count }, () => this.#frames.next()));
  }

  /** Without a word of greeting: frames, bytes of chance, or half of a frame. */
  async stranger(port: number): Promise<void> {
    this.counts.connection('stranger');
    const isPlain = this.chance(2) === 0;
    const socket = (isPlain ? PLAIN : this.#transport).dial(port, undefined);
    await on(socket, () => {
      const bytes = this.chance(4) === 0 ? randomBytes(1 + this.chance(900)) : this.#some();
      socket.write(this.chance(3) === 0 ? bytes.subarray(0, bytes.length / 2) : bytes);
    });
  }

  /** A greeting that is nearly right. */
  async greeter(port: number, who: Identity, peerId: string): Promise<void> {
    this.counts.connection('greeter');
    const socket = this.#transport.dial(port, who.nodeId);
    const hello = Buffer.from(encodeFrame({ kind: 'hello', hello: helloOf(who, peerId, 0) }));
    hello[16 + this.chance(hello.length - 16)]! ^= 1 << this.chance(8);
    await on(socket, () => {
      this.counts.frames++;
      socket.write(Buffer.concat([hello, this.#some()]));
    });
  }

  /** A node that has the key: it greets, then says anything. @param isCall as a peer call */
  async node(port: number, who: Identity, peerId: string, isCall: boolean): Promise<void> {
    this.counts.connection(`${who.nodeId}, ${isCall ? 'peer call' : 'link'}`);
    const socket = this.#transport.dial(port, who.nodeId);
    await on(socket, async () => {
      const features = isCall ? FEATURE_PEER_CALL : this.chance(2) * FEATURE_MIXED;
      const hello = helloOf(who, peerId, features);
      const nonce = nonceOf(who.directoryId, randomBytes(16));
      const parties = { clusterId: who.clusterId, dialler: who.nodeId, listener: peerId };
      const auth = new DiallerAuth(keysOf(who), parties, nonce);
      const welcomed = first(socket, 'welcome');
      socket.write(encodeFrame({ kind: 'hello', hello: { ...hello, auth: auth.hello } }));
      const { welcome } = await welcomed;
      const proof = auth.welcomed(welcome.auth, welcome.version);
      if (proof) socket.write(encodeFrame({ kind: 'proof', proof }));
      this.counts.admitted++;
      for (let n = this.chance(3); n >= 0; n--) {
        socket.write(this.#some());
        await new Promise((resolve) => setTimeout(resolve, this.chance(10)));
      }
    });
  }

  /** A member whom primaries dial: it welcomes them, and answers with anything. */
  listen(who: Identity): net.Server {
    return this.#transport.listen(who.nodeId, (socket) => {
      this.counts.connection(`${who.nodeId}, dialled`);
      on(socket, () => this.#dialled(socket, who)).catch(() => undefined);
    });
  }

  async #dialled(socket: net.Socket, who: Identity): Promise<void> {
    const { hello } = await first(socket, 'hello');
    const { clusterId, nodeId, directoryId } = who;
    const auth = new ListenerAuth(keysOf(who), nonceOf(directoryId, randomBytes(16)));
    const parties = { clusterId, dialler: hello.nodeId, listener: nodeId };
    const { minVersion, maxVersion } = hello;
    const version = Math.min(maxVersion, SPOKEN.maxVersion);
    const { features, maxFrameBytes, maxEntryBytes } = hello;
    const own = { version, clusterId, nodeId, incarnation: 1n, features };
    const welcome = { ...own, maxFrameBytes, maxEntryBytes };
    const said = auth.hello(hello.auth, parties, { version, minVersion, maxVersion });
    socket.write(encodeFrame({ kind: 'welcome', welcome: { ...welcome, auth: said } }));
    this.counts.admitted++;
    if (this.chance(4) > 0) {
      const said = await first(socket, 'spaces', ['proof']).catch(() => undefined);
      for (const { handle } of said?.rows ?? []) {
        socket.write(this.#frames.position(handle, version));
      }
    }
    for (let n = this.chance(4); n >= 0; n--) {
      await new Promise((resolve) => setTimeout(resolve, this.chance(20)));
      socket.write(this.#some());
    }
  }

  /** Requests that are nearly right. */
  async browser(port: number): Promise<void> {
    this.counts.connection('http');
    const socket = net.connect({ host: '127.0.0.1', port });
    const paths = ['/', '/live', '/metrics', '/replication/status', '/cluster/health', '/%2e%2e/x'];
    const one = (): Buffer => {
      const text = `GET ${paths[this.chance(paths.length)]} HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n`;
      const bytes = Buffer.from(text);
      for (let n = this.chance(4); n > 0; n--) bytes[this.chance(bytes.length)] = this.chance(256);
      return bytes;
    };
    const count = 1 + this.chance(20);
    this.counts.frames += count;
    await on(socket, () => {
      socket.write(Buffer.concat(Array.from({ length: count }, one)));
    });
  }

  /** Questions at the operator's socket, with the secret and without. */
  async operator(to: net.NetConnectOpts, shown: Record<string, unknown>): Promise<void> {
    this.counts.connection('operator');
    const socket = net.connect(to);
    const verbs = ['locate', 'checkpoint', 'nothing', 'promote', 'remove-replica'];
    const verb = verbs[this.chance(verbs.length)];
    const what = { verb, space: 'no such space', sequence: -1, nodeId: 'nobody' };
    const bytes = Buffer.from(`${JSON.stringify({ ...(this.chance(2) ? shown : {}), ...what })}\n`);
    for (let n = this.chance(4); n > 0; n--) bytes[this.chance(bytes.length)] = this.chance(256);
    this.counts.frames++;
    await on(socket, () => {
      socket.write(bytes);
    });
  }
}

function keysOf({ key }: Identity): Buffer[] {
  return key ? [key] : [];
}

function helloOf({ clusterId, nodeId }: Identity, peerId: string, features: number): Hello {
  const sizes = { maxFrameBytes: 1024 * 1024, maxEntryBytes: 1024 * 1024 };
  return { ...SPOKEN, clusterId, nodeId, peerId, incarnation: 7n, features, ...sizes };
}

/** The next frame but for those; what comes behind it is passed over. */
function first<K extends Frame['kind']>(
  socket: net.Socket,
  kind: K,
  before: readonly Frame['kind'][] = [],
): Promise<Frame & { kind: K }> {
  const assembler = new FrameAssembler(Math.max(FRAME_CAP, HELLO_FRAME_MAX_BYTES));
  return new Promise((resolve, reject) => {
    let isOver = false;
    socket.on('data', (chunk) => {
      if (isOver) return;
      try {
        assembler.feed(chunk, (code, body) => {
          const frame = decodeFrame(code, Uint8Array.from(body));
          if (before.includes(frame.kind)) return true;
          isOver = true;
          if (frame.kind === kind) resolve(frame as Frame & { kind: K });
          else reject(new Error(`${frame.kind} in place of ${kind}`));
          return false;
        });
      } catch (error) {
        reject(error);
      }
    });
    socket.once('close', () => reject(new Error('closed')));
  });
}
