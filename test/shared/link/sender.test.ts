import { describe, expect, test } from 'vitest';
import { Sender } from '#src/shared/link/sender.js';
import { welcomeProblem } from '#src/shared/wire/greeting.js';
import type { PositionRow } from '#src/shared/wire/protocol.js';

const OPTIONS = {
  connectTimeoutMs: 5_000,
  backoffStepsMs: [100, 1_000, 10_000],
  windowBytes: 1_000,
  catchUpBatchBytes: 1024 * 1024,
  catchUpBytesPerSecond: 0,
  maxRetries: 3,
  readTimeoutMs: 10_000,
  writeTimeoutMs: 10_000,
};
const lost = { kind: 'lost', reason: 'refused', code: undefined, isFatal: false } as const;

function position(sequence: number): PositionRow {
  const at = { epoch: 1, sequence, headerCrc: 0 };
  return { handle: 1, answer: 'follows', epochSeen: 1, position: at, applied: 0 };
}

function open(): Sender {
  const sender = new Sender(OPTIONS);
  sender.step({ kind: 'start' }, 0, 0);
  sender.step({ kind: 'connected' }, 0, 0);
  sender.step({ kind: 'welcomed', isNewLife: false }, 0, 0);
  return sender;
}

function kinds(effects: { kind: string }[]): string[] {
  return effects.map((e) => e.kind);
}

describe('the link to a replica', () => {
  test('FAULT-35 backs off by steps with jitter, opens after three failures, probes again', () => {
    const sender = new Sender(OPTIONS);
    sender.step({ kind: 'start' }, 0, 0);
    const waits: number[] = [];
    let now = 0;
    for (let i = 0; i < 5; i++) {
      sender.step(lost, now, 0.5);
      expect(sender.state).toBe(i < 2 ? 'waiting' : 'failed');
      let at = now;
      while (sender.state !== 'connecting') sender.tick(++at, false, 0);
      waits.push(at - now);
      now = at;
    }
    expect(waits).toEqual([50, 500, 5_000, 5_000, 5_000]);
    sender.step({ kind: 'connected' }, now, 0);
    sender.step({ kind: 'welcomed', isNewLife: false }, now, 0);
    expect([sender.failures, sender.isOpen]).toEqual([0, true]);
  });

  test('attempts that somebody asks for do not make the next wait longer', () => {
    const sender = new Sender(OPTIONS);
    sender.step({ kind: 'start' }, 0, 0);
    for (let i = 0; i < 20; i++) {
      sender.step(lost, i, 0.5);
      expect([sender.state, sender.failures]).toEqual(['waiting', 1]);
      expect(kinds(sender.step({ kind: 'again' }, i, 0))).toContain('dial');
      expect(sender.step({ kind: 'again' }, i, 0)).toEqual([]);
    }
    sender.step(lost, 20, 0.5);
    expect(sender.tick(69, false, 0)).toEqual([]);
    expect(kinds(sender.tick(70, false, 0))).toContain('dial');
    // Its own attempts count as ever.
    sender.step(lost, 70, 0.5);
    expect(sender.failures).toBe(2);
  });

  test('a fatal error waits at the slowest pace and is told', () => {
    const sender = new Sender(OPTIONS);
    sender.step({ kind: 'start' }, 0, 0);
    sender.step({ ...lost, code: 'WrongCluster', isFatal: true }, 0, 0.9);
    expect([sender.state, sender.fatal]).toEqual(['failed', 'WrongCluster']);
    expect(sender.tick(8_999, false, 0)).toEqual([]);
    expect(kinds(sender.tick(9_000, false, 0))).toContain('dial');
  });

  test('deadlines: connect 5 s, welcome 5 s, silence 10 s, a stuck write 10 s', () => {
    const dialling = new Sender(OPTIONS);
    dialling.step({ kind: 'start' }, 0, 0);
    expect(dialling.tick(4_999, false, 0)).toEqual([]);
    expect(kinds(dialling.tick(5_000, false, 0))).toContain('drop');
    const greeting = new Sender(OPTIONS);
    greeting.step({ kind: 'start' }, 0, 0);
    greeting.step({ kind: 'connected' }, 100, 0);
    expect(greeting.tick(5_099, false, 0)).toEqual([]);
    expect(kinds(greeting.tick(5_100, false, 0))).toContain('drop');
    const silent = open();
    silent.step({ kind: 'heard' }, 500, 0);
    expect(kinds(silent.tick(10_499, false, 0))).not.toContain('drop');
    expect(kinds(silent.tick(10_500, false, 0))).toContain('drop');
    const stuck = open();
    stuck.step({ kind: 'wrote' }, 1_000, 0);
    stuck.step({ kind: 'heard' }, 10_000, 0);
    expect(kinds(stuck.tick(10_999, true, 0))).toEqual([]);
    expect(kinds(stuck.tick(11_000, true, 0))).toContain('drop');
  });

  test('FAULT-36 heartbeats come, but nothing that was sent is acknowledged: given up', () => {
    const sender = open();
    sender.join(position(0), 1);
    sender.batchSent(1, 5, 100, 1_000);
    sender.batchSent(1, 9, 100, 2_000);
    const beatsUntil = (ms: number): string[] => {
      sender.step({ kind: 'heard' }, ms, 0);
      sender.step({ kind: 'wrote' }, ms, 0);
      return kinds(sender.tick(ms, false, 0));
    };
    expect(beatsUntil(15_999)).toEqual([]);
    // Each acknowledgement gives it time again.
    sender.acked(Float64Array.of(1, 1, 5, 0), 0, 15_999);
    sender.shrinkFlight(15_999);
    expect(beatsUntil(30_998)).toEqual([]);
    expect(beatsUntil(30_999)).toContain('drop');
  });

  test('FAULT-38 a flapping link backs off and opens the breaker; a stable one is forgiven', () => {
    const sender = new Sender(OPTIONS);
    sender.step({ kind: 'start' }, 0, 0);
    let now = 0;
    const waits: number[] = [];
    const flap = (heldMs: number): void => {
      sender.step({ kind: 'connected' }, now, 0);
      sender.step({ kind: 'welcomed', isNewLife: false }, now, 0);
      expect([sender.isOpen, sender.failures]).toEqual([true, 0]);
      now += heldMs;
      sender.step({ kind: 'heard' }, now, 0);
      sender.tick(now, false, 0);
      const from = now;
      sender.step(lost, now, 0.5);
      while (sender.state !== 'connecting') sender.tick(++now, false, 0);
      waits.push(now - from);
    };
    for (let i = 0; i < 4; i++) flap(4_000);
    flap(5_000);
    expect(waits).toEqual([50, 500, 5_000, 5_000, 50]);
  });

  test('FAULT-116 restarted ten times in a row, it is dialled within 2 s of being up', () => {
    const options = { ...OPTIONS, backoffStepsMs: [100, 1_000, 10_000, 60_000] };
    const sender = new Sender(options);
    const refused = { ...lost, reason: 'connect ECONNREFUSED 127.0.0.1:1' };
    sender.step({ kind: 'start' }, 0, 0.99);
    let now = 0;
    for (let life = 1; life <= 10; life++) {
      // Down for longer and longer: everybody who dials is told that nobody is there.
      const upMs = now + 700 * life;
      for (; now < upMs; now++) {
        if (sender.state === 'connecting') sender.step(refused, now, 0.99);
        sender.tick(now, false, 0.99);
      }
      while (sender.state !== 'connecting') sender.tick(now++, false, 0.99);
      expect(now - upMs).toBeLessThan(1_001);
      sender.step({ kind: 'connected' }, now, 0);
      sender.step({ kind: 'welcomed', isNewLife: true }, now, 0);
      now += 300;
      sender.step({ ...lost, reason: 'the replica closed the connection' }, now, 0.99);
    }
  });

  test('FAULT-116 who is heard of is dialled at once, whatever backoff says, but not often', () => {
    const sender = new Sender({ ...OPTIONS, backoffStepsMs: [60_000] });
    sender.step({ kind: 'start' }, 0, 0);
    const silent = { ...lost, reason: 'no connection within the connect timeout' };
    for (let i = 0; i < 5; i++) {
      sender.step(silent, i, 0.99);
      sender.step({ kind: 'retry' }, i, 0);
    }
    sender.step(silent, 10, 0.99);
    expect([sender.state, sender.failures]).toEqual(['failed', 6]);
    const met = { kind: 'met', isNewLife: true } as const;
    // Somebody who knocks on and on, and cannot be dialled.
    let dials = 0;
    for (let now = 20_000; now < 25_000; now += 10) {
      for (const effects of [sender.step(met, now, 0.99), sender.tick(now, false, 0.99)]) {
        dials += kinds(effects).filter((kind) => kind === 'dial').length;
      }
      if (sender.state === 'connecting') sender.step(silent, now, 0.99);
    }
    expect(dials).toBeGreaterThanOrEqual(9);
    expect(dials).toBeLessThanOrEqual(11);
    // Nothing of it is counted.
    expect(sender.failures).toBe(6);
    // What is under way may have been dialled before it was up: it is not waited for any longer.
    sender.step(met, 30_000, 0);
    expect(sender.state).toBe('connecting');
    sender.step(met, 31_000, 0);
    expect(kinds(sender.tick(31_500, false, 0.99))).toContain('drop');
  });

  test('FAULT-116 a link to a life that is over ends when the next one is heard of', () => {
    const sender = open();
    const met = (isNewLife: boolean) => sender.step({ kind: 'met', isNewLife }, 1_000, 0);
    sender.step({ kind: 'heard' }, 900, 0);
    met(false);
    sender.tick(2_250, false, 0);
    expect(sender.isOpen).toBe(true);
    // Another of its name, and this one lives: who of them is right is another question (row 26).
    met(true);
    sender.step({ kind: 'heard' }, 1_100, 0);
    sender.tick(2_250, false, 0);
    expect(sender.isOpen).toBe(true);
    sender.step({ kind: 'met', isNewLife: true }, 3_000, 0);
    sender.tick(4_249, false, 0);
    expect(sender.isOpen).toBe(true);
    expect(kinds(sender.tick(4_250, false, 0.5))).toContain('drop');
  });

  test('FAULT-30 three corrupted frames in a row are a broken path; an ack between is none', () => {
    const broken = { ...lost, code: 'ChecksumMismatch' };
    const sender = new Sender(OPTIONS);
    sender.step({ kind: 'start' }, 0, 0);
    const corrupted = (isAcked: boolean): void => {
      sender.step({ kind: 'connected' }, 0, 0);
      sender.step({ kind: 'welcomed', isNewLife: false }, 0, 0);
      sender.join(position(0), 1);
      if (isAcked) {
        sender.batchSent(1, 5, 100, 0);
        sender.acked(Float64Array.of(1, 1, 5, 0), 0, 0);
      }
      sender.step(broken, 0, 0);
      sender.tick(100_000, false, 0);
    };
    for (const isAcked of [false, false, true, false]) corrupted(isAcked);
    expect(sender.fatal).toBeUndefined();
    corrupted(false);
    expect([sender.fatal, sender.report.checksumFailures]).toEqual(['ChecksumMismatch', 5]);
  });

  test('frames grow while acks are quick, shrink when they are slow', () => {
    const sender = open();
    sender.join(position(0), 1);
    const sizes = [sender.frameBytes];
    let last = 0;
    for (const tookMs of [10, 10, 500, 2_000, 2_000, 2_000, 2_000, 2_000, 2_000]) {
      sender.batchSent(1, ++last, 100, 0);
      sender.acked(Float64Array.of(1, 1, last, 0), 0, tookMs);
      sender.shrinkFlight(tookMs);
      sizes.push(sender.frameBytes / 1024);
    }
    expect(sizes).toEqual([65_536, 128, 256, 256, 128, 64, 32, 16, 16, 16]);
  });

  test('catch-up keeps to its bytes per second', () => {
    const sender = new Sender({ ...OPTIONS, catchUpBytesPerSecond: 1_000 });
    expect(sender.readDelayMs(0)).toBe(0);
    sender.bytesRead(500, 0);
    expect(sender.readDelayMs(0)).toBe(500);
    sender.bytesRead(500, 250);
    expect([sender.readDelayMs(250), sender.readDelayMs(2_000)]).toEqual([750, 0]);
  });

  test('a heartbeat after 1 s in which nothing was sent', () => {
    const sender = open();
    sender.step({ kind: 'wrote' }, 500, 0);
    expect(sender.tick(1_499, false, 0)).toEqual([]);
    expect(kinds(sender.tick(1_500, false, 0))).toEqual(['heartbeat']);
    expect(sender.tick(1_501, false, 0)).toEqual([]);
  });

  test('FAULT-33 an ack of what was never sent, or one that goes back, is a violation', () => {
    const sender = open();
    sender.join(position(10), 1);
    sender.batchSent(1, 20, 500, 0);
    expect(sender.acked(Float64Array.of(1, 1, 15, 0), 0, 0)).toBe(true);
    const back = Float64Array.of(1, 1, 14, 0);
    expect(() => sender.acked(back, 0, 0)).toThrow(/ProtocolViolation/);
    const ahead = Float64Array.of(1, 1, 21, 0);
    expect(() => sender.acked(ahead, 0, 0)).toThrow(/ProtocolViolation/);
    expect(sender.acked(Float64Array.of(1, 2, 99, 0), 0, 0)).toBe(false);
    expect(sender.acked(Float64Array.of(9, 1, 99, 0), 0, 0)).toBe(false);
  });

  test('the window closes with what is in flight and opens with what is flushed', () => {
    const sender = open();
    sender.join(position(0), 1);
    sender.batchSent(1, 5, 600, 0);
    expect(sender.hasWindow).toBe(true);
    sender.batchSent(1, 9, 600, 0);
    expect([sender.hasWindow, sender.isDrained]).toEqual([false, false]);
    sender.acked(Float64Array.of(1, 1, 5, 0), 0, 0);
    sender.shrinkFlight(0);
    expect(sender.hasWindow).toBe(true);
    sender.acked(Float64Array.of(1, 1, 9, 0), 0, 0);
    sender.shrinkFlight(0);
    expect(sender.isDrained).toBe(true);
  });

  test('a welcome that does not fit is named', () => {
    const own = { clusterId: 'c', replica: { nodeId: 'b', host: '', port: 1 }, maxEntryBytes: 100 };
    const welcome = {
      version: 1,
      clusterId: 'c',
      nodeId: 'b',
      incarnation: 1n,
      features: 0,
      maxFrameBytes: 500,
      maxEntryBytes: 100,
    };
    expect(welcomeProblem(welcome, own, 500)).toBeUndefined();
    expect(welcomeProblem({ ...welcome, version: 2 }, own, 500)).toBeUndefined();
    expect(welcomeProblem({ ...welcome, version: 0 }, own, 500)?.code).toBe('UnsupportedVersion');
    expect(welcomeProblem({ ...welcome, version: 3 }, own, 500)?.code).toBe('UnsupportedVersion');
    expect(welcomeProblem({ ...welcome, clusterId: 'd' }, own, 500)?.code).toBe('WrongCluster');
    expect(welcomeProblem({ ...welcome, nodeId: 'd' }, own, 500)?.code).toBe('WrongNode');
    expect(welcomeProblem({ ...welcome, maxEntryBytes: 9 }, own, 500)?.code).toBe('Configuration');
    expect(welcomeProblem(welcome, own, 501)?.code).toBe('Configuration');
  });
});
