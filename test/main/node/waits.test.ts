/** Everything that waits ends with its signal; events are waited for as well as listened to. */
import { describe, expect, test } from 'vitest';
import type { NodeEventName, Space } from '#src/main/index.js';
import { EventWaits } from '#src/main/tell/event-waits.js';
import { EVENTS_WAITING_MAX } from '#src/shared/limits.js';
import { at, EachTest } from '../../support/cluster.js';

const each = new EachTest();
const start = each.start.bind(each);
const ABORTED = { code: 'Aborted', retryable: false };
const LONG_MS = 30_000;

/** One whose second copy is away, so that whoever waits for it waits. */
async function lonely(): Promise<{ space: Space; node: Awaited<ReturnType<typeof start>> }> {
  const node = await start('a', { replicas: [at('b', 9)] });
  return { node, space: await node.openSpace('s') };
}

describe('a signal', () => {
  test('ends waits for a replica; the entry is there all the same', async () => {
    const { space } = await lonely();
    const reason = new Error('enough');
    const stop = new AbortController();
    const { signal } = stop;
    const ack = { replicas: 1, timeoutMs: LONG_MS };
    const { sequence } = await space.append(1000, Buffer.from('x'), { signal });
    const waiting = [
      space.append(1000, Buffer.from('y'), { ack, signal }),
      space.appendBatch(1000, [Buffer.from('z')], { ack, signal }),
      space.flushed(sequence, { ...ack, signal }),
    ].map((wait) => wait.then(String, (error: unknown) => error));
    stop.abort(reason);
    for (const error of await Promise.all(waiting)) {
      expect(error).toMatchObject({ ...ABORTED, cause: reason });
    }
    await space.flushed(sequence);
    // Aborted before: nothing begins.
    const { lastSequence } = space.status();
    const late = space.append(1000, Buffer.from('n'), { signal });
    await expect(late).rejects.toMatchObject(ABORTED);
    expect(space.status().lastSequence).toBe(lastSequence);
  });

  test('is taken by every call that asks others', async () => {
    const { node, space } = await lonely();
    await space.append(1000, Buffer.from('x'));
    const options = { signal: AbortSignal.abort() };
    const calls = [
      node.openSpace('other', options),
      node.promote('s', options),
      node.switchover('s', 'b', options),
      node.locate('s', options),
      node.backup('/nowhere', options),
      node.removeReplica('b', options),
      node.metrics(options),
      node.drain(options),
      node.rebalance(options),
      node.once('fatal', options),
      space.seek(0n, options),
      space.read(options).next(),
    ];
    for (const call of calls) await expect(call).rejects.toMatchObject(ABORTED);
    expect(node.spaces.map((space) => space.name)).toEqual(['s']);
    const wrong = { signal: 'stop' as unknown as AbortSignal };
    await expect(node.locate('s', wrong)).rejects.toMatchObject({ code: 'Configuration' });
    await expect(node.once('fatal', wrong)).rejects.toMatchObject({ code: 'Configuration' });
  });

  test('of a host is given one listener, however many calls wait with it', async () => {
    const { space } = await lonely();
    const warnings: Error[] = [];
    const warned = (warning: Error): void => void warnings.push(warning);
    process.on('warning', warned);
    each.finally(() => process.off('warning', warned));
    const stop = new AbortController();
    const ack = { replicas: 1, timeoutMs: LONG_MS, signal: stop.signal };
    const waiting = Array.from({ length: 50 }, () => space.flushed(1, ack).catch((e) => e.code));
    await new Promise((resolve) => setTimeout(resolve, 50));
    stop.abort();
    expect(new Set(await Promise.all(waiting))).toEqual(new Set(['Aborted']));
    expect(warnings).toEqual([]);
  });
});

describe('events', () => {
  test('`once` gives the next one, or says that none will come', async () => {
    const node = await start('a');
    const next = node.once('replica-set');
    await node.addReplica(at('b', 9));
    expect(await next).toEqual({ replicaId: 'b', change: 'added' });
    const never = node.once('fatal');
    const ended = expect(never).rejects.toMatchObject({ code: 'Closed' });
    await node.close();
    await ended;
    await expect(node.once('fatal')).rejects.toMatchObject({ code: 'Closed' });
  });

  test('a loop gets those of its names, in order, from the call on', async () => {
    const node = await start('a');
    const stop = new AbortController();
    const some = node.events(['replica-set', 'fatal'], { signal: stop.signal });
    const every = node.events();
    for (const id of ['b', 'c', 'd']) await node.addReplica(at(id, 9));
    await node.removeReplica('c');
    const found: string[] = [];
    for await (const one of some) {
      // Its name says what it holds.
      if (one.name === 'replica-set') found.push(`${one.event.change} ${one.event.replicaId}`);
      if (found.length === 4) stop.abort();
    }
    expect(found).toEqual(['added b', 'added c', 'added d', 'removed c']);
    await node.close();
    const names: NodeEventName[] = [];
    for await (const { name } of every) names.push(name);
    expect(names.filter((name) => name === 'replica-set')).toHaveLength(4);
    expect((await node.events().next()).done).toBe(true);
  });

  test('a name that there is not is refused, by the compiler as well', async () => {
    const node = await start('a');
    const refused = { code: 'Configuration' };
    // @ts-expect-error no such event
    await expect(node.once('nothing')).rejects.toMatchObject(refused);
    // @ts-expect-error no such event
    expect(() => node.events(['fatal', 'nothing'])).toThrow(
      /no event 'nothing'|no event "nothing"/,
    );
    for (const none of ['', 'fatal', 5, {}, null] as never[]) {
      expect(() => node.events(none)).toThrow(/what events was given is .*, not an array of names/);
    }
  });

  test('a loop that is too slow is told so, and holds no more than so many', async () => {
    const waits = new EventWaits();
    const slow = waits.events(['fatal']);
    for (let n = 0; n <= EVENTS_WAITING_MAX; n++) waits.tell('fatal', {} as never);
    await expect(slow.next()).rejects.toMatchObject({ code: 'Backpressure' });
    expect((await slow.next()).done).toBe(true);
    // One that keeps up is told of all of them.
    const quick = waits.events(['fatal']);
    for (let n = 0; n < 3 * EVENTS_WAITING_MAX; n++) {
      waits.tell('fatal', {} as never);
      expect((await quick.next()).done).toBe(false);
    }
  });
});
