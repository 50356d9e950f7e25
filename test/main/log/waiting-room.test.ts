import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { WaitingRoom } from '#src/main/log/waiting-room.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

test('serves in order, as far as there is room, and each once', async () => {
  const room = new WaitingRoom();
  let free = 0;
  const served: number[] = [];
  const enter = (id: number): Promise<void> =>
    room.enter(() => {
      if (free === 0) return false;
      free--;
      served.push(id);
      // What a retry does may lead back here.
      room.drain();
      return true;
    });
  const all = [enter(1), enter(2), enter(3)];
  free = 2;
  room.drain();
  expect(served).toEqual([1, 2]);
  expect(room.isEmpty).toBe(false);
  free = 1;
  room.drain();
  await Promise.all(all);
  expect(served).toEqual([1, 2, 3]);
  expect(room.isEmpty).toBe(true);
});

test('rejects Backpressure after 5 s, the first to come first', async () => {
  const room = new WaitingRoom();
  const early = room.enter(() => false);
  await vi.advanceTimersByTimeAsync(3_000);
  const late = room.enter(() => false);
  const outcome = vi.fn();
  late.catch(outcome);
  const rejected = expect(early).rejects.toMatchObject({ code: 'Backpressure' });
  await vi.advanceTimersByTimeAsync(2_000);
  await rejected;
  expect(outcome).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(3_000);
  expect(outcome).toHaveBeenCalledOnce();
});

test('rejects at once when 10,000 wait', async () => {
  const room = new WaitingRoom();
  const waiting = Array.from({ length: 10_000 }, () => room.enter(() => false));
  await expect(room.enter(() => false)).rejects.toMatchObject({ code: 'Backpressure' });
  const settled = Promise.allSettled(waiting);
  room.rejectAll(new Error('closed'));
  const outcomes = await settled;
  expect(outcomes.every((o) => o.status === 'rejected')).toBe(true);
});

test('what a retry throws is the rejection, and the next is served', async () => {
  const room = new WaitingRoom();
  let broken = false;
  const first = room.enter(() => {
    if (broken) throw new Error('failed');
    return false;
  });
  const second = room.enter(() => broken);
  broken = true;
  room.drain();
  await expect(first).rejects.toThrow('failed');
  await second;
});

test('a loop that was blocked for too long hears of room before anybody is late', async () => {
  const room = new WaitingRoom();
  let isFree = false;
  const served = room.enter(() => isFree);
  const late = room.enter(() => false);
  const rejected = expect(late).rejects.toMatchObject({ code: 'Backpressure' });
  // Time-outs come first in a turn, then what disks and threads have to say.
  vi.advanceTimersByTime(6_000);
  isFree = true;
  room.drain();
  await served;
  await rejected;
  expect(room.isEmpty).toBe(true);
  // And whoever comes then has its whole time.
  const outcome = vi.fn();
  room.enter(() => false).catch(outcome);
  await vi.advanceTimersByTimeAsync(4_999);
  expect(outcome).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);
  expect(outcome).toHaveBeenCalledOnce();
});

test('who was late when room came, and has it, ends nobody who comes then', async () => {
  const room = new WaitingRoom();
  let isFree = false;
  const served = room.enter(() => isFree);
  vi.advanceTimersByTime(5_000);
  isFree = true;
  room.drain();
  await served;
  const outcome = vi.fn();
  room.enter(() => false).catch(outcome);
  await vi.advanceTimersByTimeAsync(4_999);
  expect(outcome).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);
  expect(outcome).toHaveBeenCalledOnce();
});
