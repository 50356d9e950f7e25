/**
 * A network in memory. The fault model, for each ordered pair of nodes:
 *
 * - A blocked link delivers nothing and says nothing; what was sent arrives when it is open again,
 *   in order, unless an end is gone by then. A link may be blocked one way.
 * - Latency is chance, and more of it on a delayed link; bytes of one connection keep their order
 *   and may come in other pieces.
 * - A corrupted link changes one byte of what it delivers next.
 * - A duplicating link delivers what was written next, a frame as a rule, twice; a losing one drops
 *   the next frame of batches, as no TCP does, but a faulty sender may.
 * - A connection may be reset. A killed process closes its connections; a machine without power
 *   says nothing, and answers a reset when it is back and hears of a connection that it lost.
 * - A stopped process still has a system that takes bytes for it, as many as its buffer holds.
 */
import { EventEmitter } from 'node:events';
import type { Listener } from '#src/main/runtime/machine.js';
import type { Address } from '#src/shared/address.js';
import type { ByteSocket } from '#src/shared/wire/byte-socket.js';
import { BATCHES } from '#src/shared/wire/frame.js';
import type { Chance } from '../support/fake-disk.js';
import type { Owner, VirtualClock } from './clock.js';

/** Where a frame says what it is: each write is one. */
const KIND_AT = 4;
/** What a system takes for a process that does not read. */
const BUFFER_BYTES = 64 * 1024;

/** One machine. */
export interface Machine {
  readonly name: string;
  isUp: boolean;
}

interface Packet {
  /** undefined: the end of what is sent. */
  readonly bytes: Uint8Array | undefined;
  readonly done: (() => void) | undefined;
}

export class SimSocket extends EventEmitter implements ByteSocket {
  readonly #network: SimNetwork;
  readonly machine: Machine;
  readonly owner: Owner | undefined;
  peer: SimSocket | undefined;
  destroyed = false;
  writableLength = 0;
  /** Its machine has forgotten it, without a word. */
  isForgotten = false;
  /** Sent, and on its way to the peer. */
  readonly underway: Packet[] = [];
  isMoving = false;
  /** Here, and not read yet. */
  readonly arrived: Uint8Array[] = [];
  arrivedBytes = 0;
  hasEnded = false;
  #isPaused = false;
  #isTold = false;
  #isHanding = false;

  constructor(network: SimNetwork, machine: Machine, owner: Owner | undefined) {
    super();
    this.#network = network;
    this.machine = machine;
    this.owner = owner;
  }

  write(bytes: Uint8Array, done?: () => void): boolean {
    if (this.destroyed || !this.peer) {
      if (done) this.#network.clock.after(0, this.owner, done);
      return false;
    }
    this.writableLength += bytes.length;
    this.underway.push({ bytes: bytes.slice(), done });
    this.#network.move(this);
    return this.writableLength < BUFFER_BYTES;
  }

  end(): this {
    this.destroySoon();
    return this;
  }

  destroySoon(): void {
    if (this.destroyed) return;
    if (!this.peer) {
      this.destroy();
      return;
    }
    this.underway.push({ bytes: undefined, done: undefined });
    this.#network.move(this);
  }

  destroy(error?: Error): this {
    if (this.destroyed) return this;
    this.destroyed = true;
    // What has not left yet is dropped; the end itself is told.
    this.underway.length = 0;
    if (this.peer && !this.peer.destroyed) {
      this.underway.push({ bytes: undefined, done: undefined });
      this.#network.move(this);
    }
    this.#network.clock.after(0, this.owner, () => {
      if (error) this.emit('error', error);
      this.emit('close');
    });
    return this;
  }

  pause(): this {
    this.#isPaused = true;
    return this;
  }

  resume(): this {
    this.#isPaused = false;
    this.hand();
    return this;
  }

  get isFull(): boolean {
    return this.arrivedBytes >= BUFFER_BYTES;
  }

  /** Gives the process what has arrived. */
  hand(): void {
    if (this.#isHanding || this.destroyed) return;
    if (this.arrived.length > 0 ? this.#isPaused : !this.hasEnded) return;
    this.#isHanding = true;
    this.#network.clock.after(0, this.owner, () => {
      this.#isHanding = false;
      if (this.destroyed) return;
      if (this.arrived.length > 0) {
        if (this.#isPaused) return;
        const chunk = this.#network.read(this.arrived);
        this.arrivedBytes -= chunk.length;
        this.emit('data', chunk);
        // Its memory is read into again, as a plain socket's is.
        chunk.fill(0xee);
        if (this.peer) this.#network.move(this.peer);
        this.hand();
      } else if (this.hasEnded && !this.#isTold) {
        // Told while it is paused, too, as Node does where nothing is left to read.
        this.#isTold = true;
        if (!this.emit('end')) this.destroy();
      }
    });
  }
}

export class SimNetwork {
  readonly clock: VirtualClock;
  readonly #chance: Chance;
  readonly #listeners = new Map<
    number,
    { machine: Machine; accept: (from: Machine) => SimSocket }
  >();
  /** Whose port it is, whether anybody listens there now or not. */
  readonly #machines = new Map<number, Machine>();
  readonly #sockets = new Set<SimSocket>();
  /** Ordered pairs "from>to" that deliver nothing, and since when. */
  readonly #blocked = new Map<string, number>();
  readonly #corrupt = new Set<string>();
  readonly #duplicate = new Set<string>();
  readonly #lose = new Set<string>();
  /** Added to what is chance, ms. */
  readonly #delays = new Map<string, number>();
  maxLatencyMs = 2;

  constructor(clock: VirtualClock, chance: Chance) {
    this.clock = clock;
    this.#chance = chance;
  }

  /** For how long a link has delivered nothing, ms. */
  blockedMs(from: string, to: string): number {
    return this.clock.nowMs - (this.#blocked.get(`${from}>${to}`) ?? this.clock.nowMs);
  }

  block(from: string, to: string): void {
    const link = `${from}>${to}`;
    if (!this.#blocked.has(link)) this.#blocked.set(link, this.clock.nowMs);
  }

  open(from: string, to: string): void {
    this.#blocked.delete(`${from}>${to}`);
    for (const socket of this.#sockets) this.move(socket);
  }

  corrupt(from: string, to: string): void {
    this.#corrupt.add(`${from}>${to}`);
  }

  lose(from: string, to: string): void {
    this.#lose.add(`${from}>${to}`);
  }

  duplicate(from: string, to: string): void {
    this.#duplicate.add(`${from}>${to}`);
  }

  delay(from: string, to: string, ms: number): void {
    this.#delays.set(`${from}>${to}`, ms);
  }

  heal(): void {
    this.#duplicate.clear();
    this.#lose.clear();
    this.#delays.clear();
    this.#blocked.clear();
    this.#corrupt.clear();
    for (const socket of this.#sockets) this.move(socket);
  }

  /** Ends one of the connections, for both. @returns whether there was one */
  resetOne(): boolean {
    const live = [...this.#sockets].filter((s) => s.peer && !s.destroyed && !s.peer.destroyed);
    if (live.length === 0) return false;
    const socket = live[this.#chance(live.length)]!;
    socket.peer!.destroy(new Error('ECONNRESET'));
    socket.destroy(new Error('ECONNRESET'));
    return true;
  }

  /** As TCP: what was sent in pieces may be read in one. */
  read(arrived: Uint8Array[]): Uint8Array {
    const pieces = arrived.splice(0, 1 + this.#chance(arrived.length));
    return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
  }

  /** A process has died: its system closes for it. */
  processDied(machine: Machine): void {
    for (const [port, listener] of this.#listeners) {
      if (listener.machine === machine) this.#listeners.delete(port);
    }
    for (const socket of this.#sockets) if (socket.machine === machine) socket.destroy();
  }

  /** The machine has lost power: nobody is told. */
  machineDied(machine: Machine): void {
    machine.isUp = false;
    for (const socket of this.#sockets) {
      if (socket.machine !== machine) continue;
      socket.isForgotten = true;
      socket.destroyed = true;
      socket.underway.length = 0;
    }
    this.processDied(machine);
  }

  // --- connections -----------------------------------------------------------------------------

  listener(machine: Machine, owner: Owner, accepted: (socket: ByteSocket) => void): Listener {
    let port = 0;
    return {
      listen: async (address: Address) => {
        port = address.port;
        if (this.#listeners.has(port)) throw new Error(`EADDRINUSE: ${port}`);
        const accept = (): SimSocket => {
          const socket = new SimSocket(this, machine, owner);
          this.#sockets.add(socket);
          this.clock.after(0, owner, () => accepted(socket));
          return socket;
        };
        this.#listeners.set(port, { machine, accept });
        this.#machines.set(port, machine);
        return address;
      },
      close: async () => {
        this.#listeners.delete(port);
      },
    };
  }

  connect(machine: Machine, owner: Owner, port: number): SimSocket {
    const socket = new SimSocket(this, machine, owner);
    this.#sockets.add(socket);
    this.clock.after(this.#latency(), undefined, () => {
      const listener = this.#listeners.get(port);
      if (socket.destroyed) return;
      const target = this.#machines.get(port);
      const pair = target && [`${machine.name}>${target.name}`, `${target.name}>${machine.name}`];
      // Nobody says no for who is cut off, or has no power.
      if (target?.isUp === false || pair?.some((link) => this.#blocked.has(link))) return;
      if (!listener) {
        socket.destroy(new Error('ECONNREFUSED'));
        return;
      }
      const other = listener.accept(machine);
      other.peer = socket;
      socket.peer = other;
      this.clock.after(this.#latency(), owner, () => {
        if (!socket.destroyed) socket.emit('connect');
      });
    });
    return socket;
  }

  #latency(): number {
    return (1 + this.#chance(1_000)) * (this.maxLatencyMs / 1_000);
  }

  /** Brings on what a socket has sent, if its link lets it through. */
  move(from: SimSocket): void {
    if (from.isMoving || from.underway.length === 0) return;
    const to = from.peer!;
    const link = `${from.machine.name}>${to.machine.name}`;
    if (this.#blocked.has(link)) return;
    from.isMoving = true;
    this.clock.after(this.#latency() + (this.#delays.get(link) ?? 0), undefined, () => {
      from.isMoving = false;
      if (this.#blocked.has(link) || to.isFull) return;
      const packet = from.underway.shift();
      if (!packet) return;
      this.#deliver(from, to, packet, link);
      this.move(from);
    });
  }

  #deliver(from: SimSocket, to: SimSocket, packet: Packet, link: string): void {
    const { bytes, done } = packet;
    if (to.isForgotten) {
      // Its system knows nothing of the connection: a reset, as soon as it is up.
      if (to.machine.isUp) from.destroy(new Error('ECONNRESET'));
      return;
    }
    if (!bytes) {
      to.hasEnded = true;
      to.hand();
      if (!from.destroyed) from.destroy();
      this.#sockets.delete(from);
      return;
    }
    from.writableLength -= bytes.length;
    if (done) this.clock.after(0, from.owner, done);
    if (to.destroyed) return;
    if (bytes[KIND_AT] === BATCHES && this.#lose.delete(link)) return;
    if (this.#corrupt.delete(link)) {
      const at = this.#chance(bytes.length);
      bytes[at] = bytes[at]! ^ (1 + this.#chance(255));
    }
    const cut = this.#chance(8) === 0 ? this.#chance(bytes.length) : 0;
    const again = this.#duplicate.delete(link) ? [bytes.slice()] : [];
    for (const part of [bytes.subarray(0, cut), bytes.subarray(cut), ...again]) {
      if (part.length === 0) continue;
      to.arrived.push(part);
      to.arrivedBytes += part.length;
    }
    to.hand();
  }
}
