/** A member whose directory forgets what it acknowledged (row 108): its old acks are void. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { encodeFrame } from '#src/shared/wire/protocol.js';
import { at, contentOf, EachTest, heard, openSmall, until } from '../support/cluster.js';
import { WireClient } from '../support/wire-client.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const life = new EachTest();

async function again(nodeId: string, port: number): Promise<Node> {
  const node = await openSmall(path.join(life.folder, nodeId), nodeId, {
    listen: { host: '127.0.0.1', port },
  });
  life.finally(() => node.close());
  return node;
}

/** `b`, `c` follow `a`; what `b` has after entry 5 is put aside, and comes back after entry 20. */
async function putBack() {
  const b = await life.start('b', { listen: LISTEN });
  const c = await life.start('c', { listen: LISTEN });
  const { port } = b.address!;
  const replicas = [at('b', port), at('c', c.address!.port)];
  const a = await life.start('a', { lead: true, listen: LISTEN, replicas });
  const told = heard(a, 'member-regressed');
  const space = await a.openSpace('s');
  const fill = async (from: number, to: number): Promise<void> => {
    for (let n = from; n <= to; n++) {
      await space.append(1, Buffer.from(`${n}`), { ack: { replicas: 2, timeoutMs: 20_000 } });
    }
  };
  await fill(1, 5);
  await b.close();
  const dir = path.join(life.folder, 'b');
  fs.cpSync(dir, `${dir}.old`, { recursive: true });
  const back = await again('b', port);
  await until('b is there', () => {
    return space.status().replicas.every((r) => r.state === 'streaming');
  });
  await fill(6, 20);
  await back.close();
  fs.rmSync(dir, { recursive: true });
  fs.renameSync(`${dir}.old`, dir);
  return { a, c, space, port, told, before: b.status().directoryId };
}

test('FAULT-108 a directory that went back is told so, and comes in as another one', async () => {
  const { space, port, told, before } = await putBack();
  const b = await again('b', port);
  const renewed = heard(b, 'directory-renewed');
  await until('its primary has told it', () => told.length > 0);
  expect(told[0]).toMatchObject({ space: 's', replicaId: 'b', flushed: 20, sequence: 5 });
  expect(told[0]!.directoryId).toBe(before);
  await until('it is another directory', () => b.status().directoryId !== before);
  const { directoryId } = b.status();
  await until('it is told here', () => renewed.length > 0);
  expect(renewed).toEqual([{ directoryId, before }]);
  await until('it is taken in as that', () =>
    space.status().members.counting.some((m) => m.directoryId === directoryId),
  );
  await until('b is there', () => {
    return space.status().replicas.every((r) => r.state === 'streaming');
  });
  await space.append(1, Buffer.from('last'), { ack: { replicas: 2, timeoutMs: 20_000 } });
  await until('the change is over', () => space.status().members.pending === undefined);
  await until('b has all of it', () => space.status().isReplicated(2));
  expect(await contentOf(b.space('s'))).toEqual(await contentOf(space));
  // Durable: it was asked about once.
  await b.close();
  const back = await again('b', port);
  expect(back.status().directoryId).toBe(directoryId);
  expect(told).toHaveLength(1);
});

test('FAULT-108 its primary knows it after a restart, too', async () => {
  const { a, port, before } = await putBack();
  await a.close();
  const replicas = [at('b', port)];
  const [dirOfA, told] = [path.join(life.folder, 'a'), [] as unknown[]];
  const again2 = await openSmall(dirOfA, 'a', { lead: true, replicas, openConfirmMs: 50 });
  life.finally(() => again2.close());
  again2.on('member-regressed', (event) => told.push(event));
  const b = await again('b', port);
  await until('it is another directory', () => b.status().directoryId !== before);
  expect(told).toMatchObject([{ replicaId: 'b', flushed: 20, sequence: 5 }]);
});

test('FAULT-108 a wiped directory makes no majority, and its promise is none', async () => {
  const b = await life.start('b', { listen: LISTEN });
  const c = await life.start('c', { listen: LISTEN });
  const { port } = b.address!;
  const replicas = [at('b', port), at('c', c.address!.port)];
  const a = await life.start('a', { lead: true, listen: LISTEN, replicas });
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('one'), { ack: { replicas: 2 } });
  await c.close();
  await space.append(1, Buffer.from('two'), { ack: { replicas: 1 } });
  await b.close();
  fs.rmSync(path.join(life.folder, 'b'), { recursive: true });
  // Nothing but an introduction: it is asked before it is taken in.
  const wiped = await again('b', port);
  await until('it learns', () => wiped.spaces.length > 0);
  await a.close();
  const c2 = await again('c', c.address?.port ?? Number(replicas[1]!.port));
  const refused = await c2.promote('s').catch((error) => error);
  // `c` lacks entry 2, and of the two others one is gone and one is somebody else.
  expect(refused).toMatchObject({ code: 'PromotionRefused' });
  await expect(wiped.promote('s')).rejects.toMatchObject({ code: 'PromotionRefused' });
});

test('FAULT-108 who is introduced anew while it acknowledges has forgotten nothing', async () => {
  const b = await life.start('b', { listen: LISTEN });
  const c = await life.start('c', { listen: LISTEN });
  const replicas = [at('b', b.address!.port), at('c', c.address!.port)];
  const a = await life.start('a', { lead: true, listen: LISTEN, replicas });
  const told = heard(a, 'member-regressed');
  const names = Array.from({ length: 16 }, (_, n) => `s${n}`);
  const spaces = await Promise.all(names.map((name) => a.openSpace(name)));
  let isOver = false;
  const loads = spaces.map(async (space) => {
    while (!isOver) await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
  });
  const load = Promise.all(loads).catch((error) => error);
  // Each change of whom they go to introduces them, in one frame, to who streams them already.
  for (let round = 0; round < 20 && told.length === 0; round++) {
    const ids = round % 2 === 0 ? ['b'] : ['b', 'c'];
    await Promise.all(names.map((name) => a.openSpace(name, { replicas: ids })));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  isOver = true;
  expect(told).toEqual([]);
  expect(await load).not.toBeInstanceOf(Error);
});

test('FAULT-108 a primary that says so again and again is believed once', async () => {
  const b = await life.start('b', { listen: LISTEN });
  const renewed = heard(b, 'directory-renewed');
  /** @returns what the link ends with */
  const told = async (flushed: number): Promise<string> => {
    const liar = new WireClient(b.address!.port);
    life.finally(() => liar.socket.destroy());
    const auth = Buffer.alloc(16, 7);
    await liar.hello('b', { minVersion: 2, maxVersion: 2, auth });
    await liar.follow('s');
    liar.socket.write(encodeFrame({ kind: 'regressed', handle: 1, flushed }, 2));
    return (await liar.next('bye')).code;
  };
  expect(await told(20)).toBe('ConnectionLost');
  await until('it is another directory', () => renewed.length === 1);
  for (const flushed of [30, 40]) expect(await told(flushed)).toBe('ProtocolViolation');
  expect(renewed).toHaveLength(1);
});
