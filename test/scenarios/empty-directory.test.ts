/** A data directory is replaced by an empty or an older one, and members answer late (row 85). */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { at, contentOf, EachTest, heard, removeFolder, SMALL, until } from '../support/cluster.js';
import { freePort } from '../support/etcd.js';

const CLI = path.join(import.meta.dirname, '../../dist/main/cli.js');
const life = new EachTest();

/** Stands before a node: what it does with connections until it opens. */
class Door {
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  isOpen = false;
  /** Of each chunk, on its way back. */
  delayMs = 0;
  connections = 0;

  constructor(
    readonly port: number,
    readonly behind: number,
  ) {
    this.#server = net.createServer((socket) => this.#accept(socket));
    life.finally(() => this.close());
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.port, '127.0.0.1', resolve));
  }

  #accept(socket: net.Socket): void {
    this.connections++;
    if (!this.isOpen) {
      socket.destroy();
      return;
    }
    const inner = net.connect(this.behind, '127.0.0.1');
    for (const one of [socket, inner]) {
      this.#sockets.add(one);
      one.on('error', () => undefined);
      one.on('close', () => {
        socket.destroy();
        inner.destroy();
      });
    }
    socket.pipe(inner);
    inner.on('data', (chunk) => setTimeout(() => socket.write(chunk), this.delayMs));
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (!this.#server.listening) return;
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

const in1s = (work: () => unknown): void => {
  const timer = setTimeout(work, 1_000);
  life.finally(() => clearTimeout(timer));
};

/** `a` has led `s` up to entry 3, and `b` has it all; both are closed. @returns where b listens */
async function led(): Promise<number> {
  const port = await freePort();
  const b = await life.start('b', { listen: { host: '127.0.0.1', port } });
  const a = await life.start('a', { replicas: [at('b', port)] });
  const space = await a.openSpace('s');
  for (let n = 1; n <= 3; n++) await space.append(1, Buffer.from(`${n}`), { ack: { replicas: 1 } });
  await a.close();
  await b.close();
  return port;
}

function wipe(nodeId: string): void {
  removeFolder(path.join(life.folder, nodeId));
}

/** `b` again, behind a door: it listens elsewhere than it is dialled. */
async function behindDoor(port: number): Promise<{ b: Node; door: Door }> {
  const b = await life.start('b', { listen: { host: '127.0.0.1', port: 0 } });
  return { b, door: new Door(port, b.address!.port) };
}

function openA(port: number, more: Partial<NodeOptions> = {}): Promise<Node> {
  return life.start('a', { replicas: [at('b', port)], openConfirmMs: 8_000, ...more });
}

describe('an empty directory under an old name', () => {
  test('FAULT-85 its replica listens a second later: no second history', async () => {
    const port = await led();
    wipe('a');
    const a = await openA(port);
    const unconfirmed = heard(a, 'unconfirmed-open');
    in1s(() => life.start('b', { listen: { host: '127.0.0.1', port } }));
    const opened = a.openSpace('s');
    await expect(opened).rejects.toMatchObject({ code: 'StalePrimary' });
    expect(a.spaces).toEqual([]);
    expect(unconfirmed).toEqual([]);
  });

  test('FAULT-85 it drops connections for a second', async () => {
    const port = await led();
    wipe('a');
    const { door } = await behindDoor(port);
    await door.listen();
    const a = await openA(port);
    in1s(() => {
      door.isOpen = true;
    });
    await expect(a.openSpace('s')).rejects.toMatchObject({ code: 'StalePrimary' });
    expect(door.connections).toBeGreaterThan(3);
    // And nobody waits for a link that ships nothing.
    const closing = performance.now();
    await a.close();
    expect(performance.now() - closing).toBeLessThan(3_000);
  });

  test('FAULT-85 it answers slowly', async () => {
    const port = await led();
    wipe('a');
    const { door } = await behindDoor(port);
    Object.assign(door, { isOpen: true, delayMs: 400 });
    await door.listen();
    const a = await openA(port);
    await expect(a.openSpace('s')).rejects.toMatchObject({ code: 'StalePrimary' });
  });

  test('FAULT-85 who answers leads it: the empty node follows', async () => {
    const [portA, portB] = [await freePort(), await freePort()];
    const a = await life.start('a', { listen: { host: '127.0.0.1', port: portA } });
    const leader = { listen: { host: '127.0.0.1', port: portB }, lead: true } as const;
    const replicas = [at('a', portA)];
    const b = await life.start('b', { ...leader, replicas });
    await (await b.openSpace('s')).append(1, Buffer.from('1'), { ack: { replicas: 1 } });
    await a.close();
    await b.close();
    wipe('a');
    const again = await openA(portB, { listen: { host: '127.0.0.1', port: portA }, lead: true });
    let b2: Node | undefined;
    in1s(async () => {
      b2 = await life.start('b', { ...leader, replicas });
    });
    const space = await again.openSpace('s');
    expect(space.status()).toMatchObject({ role: 'replica', primaryNodeId: 'b', epoch: 1 });
    await until('it has what it lost, and counts again', () => {
      if (!b2) return false;
      const { members, durableSequence } = b2.space('s').status();
      const isIn = members.counting.length === 2 && members.pending === undefined;
      return isIn && space.status().durableSequence === durableSequence;
    });
    expect(await contentOf(space)).toEqual(await contentOf(b2!.space('s')));
    // Another directory under the old name: whoever asks sees that.
    const { directoryId } = again.status();
    expect(directoryId).not.toBe(a.status().directoryId);
    await until('b knows', () => b2!.status().replicas[0]!.directoryId === directoryId);
  });

  test('FAULT-85 a process that is started beside it', async () => {
    const port = await led();
    wipe('a');
    const file = path.join(life.folder, 'serve.json');
    const { backoffStepsMs: _, ...sizes } = SMALL;
    const listen = { host: '127.0.0.1', port };
    const options = { ...sizes, dataDir: path.join(life.folder, 'b'), nodeId: 'b', listen };
    fs.writeFileSync(file, JSON.stringify(options));
    const a = await openA(port, { openConfirmMs: 30_000 });
    let child: ChildProcess | undefined;
    in1s(() => {
      child = spawn(process.execPath, [CLI, 'serve', '--config', file], { stdio: 'ignore' });
    });
    await expect(a.openSpace('s')).rejects.toMatchObject({ code: 'StalePrimary' });
    child!.kill('SIGKILL');
    await once(child!, 'close');
  });

  test('it answers when the time is over: the node leads, and has said so', async () => {
    const port = await led();
    wipe('a');
    const begun = performance.now();
    const a = await openA(port, { openConfirmMs: 500 });
    const unconfirmed = heard(a, 'unconfirmed-open');
    const space = await a.openSpace('s');
    expect(performance.now() - begun).toBeGreaterThan(490);
    expect(space.status().role).toBe('primary');
    expect(unconfirmed).toEqual([{ spaces: ['s'], silent: ['b'] }]);
    // For as long as it stays away nobody waits for it again.
    const next = performance.now();
    for (let n = 0; n < 20; n++) await a.openSpace(`t${n}`);
    expect(performance.now() - next).toBeLessThan(20 * 400);
    // Two that are made in one turn are told together, a turn behind.
    const told = (): string[] => unconfirmed.flatMap((event) => event.spaces);
    await until('all are told', () => told().length >= 21);
    expect(new Set(told()).size).toBe(21);
    expect(told()).toHaveLength(21);
  });
});

describe('an older directory', () => {
  test('FAULT-85 what its replica has more is known before the first append', async () => {
    const port = await led();
    const [dir, old] = [path.join(life.folder, 'a'), path.join(life.folder, 'old')];
    fs.cpSync(dir, old, { recursive: true });
    const listen = { host: '127.0.0.1', port };
    let b = await life.start('b', { listen });
    const before = await openA(port);
    const led2 = await before.openSpace('s');
    for (const n of [4, 5]) await led2.append(1, Buffer.from(`${n}`), { ack: { replicas: 1 } });
    await before.close();
    await b.close();
    wipe('a');
    fs.cpSync(old, dir, { recursive: true });
    in1s(async () => {
      b = await life.start('b', { listen });
    });
    const a = await openA(port);
    // It knows by now: nothing is written over what its replica has acknowledged.
    const { refusal, durableSequence } = a.space('s').status();
    expect(refusal?.code === 'StalePrimary' || durableSequence >= 5).toBe(true);
    const space = a.space('s');
    await until('it has filled itself up', () => space.status().refusal === undefined);
    expect((await space.append(1, Buffer.from('6'))).sequence).toBeGreaterThan(5);
    expect((await contentOf(space)).slice(0, 5)).toEqual(
      (await contentOf(b.space('s'))).slice(0, 5),
    );
  });
});
