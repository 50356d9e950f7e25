import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { UNSYNCED_GROUPS_MAX } from '#src/shared/limits.js';
import {
  type CommitEffect,
  type CommitInput,
  type FsyncMode,
  type Group,
  GroupCommit,
} from '#src/shared/log/group-commit.js';

const SEGMENT = 1_000_000;

/** A disk and a host for the machine: carries effects out when it is told to, and checks all. */
class Shell {
  readonly commit: GroupCommit<Group>;
  readonly acksDurableOnly: boolean;
  openBytes = 0;
  suspended = false;
  /** Effects that the disk has taken and not answered. */
  sealing = 0;
  writing: Group | undefined;
  syncing = false;
  timers = 0;
  end = 0;
  written = 0;
  /** What an fdatasync has truly covered. */
  onDisk = 0;
  durable = 0;
  published = 0;
  closed = 0;
  /** Of the group that is next sealed: its segment, and where the entries before that end. */
  segmentStart = 0;
  segmentBefore = 0;
  /** As the shell of the log has it: the segment that is open for writing. */
  open = 0;

  constructor(mode: FsyncMode) {
    this.acksDurableOnly = mode === 'per-batch' || mode === 'per-write';
    const segment = { start: 0, size: SEGMENT, end: 0, durable: 0 };
    this.commit = new GroupCommit(mode, SEGMENT, segment);
  }

  step(input: CommitInput<Group> | undefined): void {
    for (const effect of this.commit.step(input, this.openBytes)) this.carry(effect);
  }

  stage(bytes: number): void {
    this.openBytes += bytes;
    this.step(undefined);
  }

  close(): void {
    expect(this.openBytes).toBeGreaterThan(0);
    const group = {
      bytes: this.openBytes,
      startLsn: 0,
      previousEnd: 0,
      durableLsn: 0,
      rolls: false,
    };
    this.openBytes = 0;
    this.closed++;
    this.step({ kind: 'closed', group });
  }

  carry(effect: CommitEffect<Group>): void {
    switch (effect.kind) {
      case 'close':
        this.close();
        return;
      case 'seal': {
        const { group } = effect;
        this.sealing++;
        expect(this.sealing).toBe(1);
        expect(group.previousEnd).toBe(this.end);
        const next = Math.max(group.previousEnd, this.open);
        if (!group.rolls && next === this.open) expect(group.startLsn).toBe(next);
        else if (!group.rolls) expect(group.startLsn).toBe(group.previousEnd);
        else expect(group.startLsn % SEGMENT).toBe(0);
        const first = Math.floor(group.startLsn / SEGMENT);
        expect(Math.floor((group.startLsn + group.bytes - 1) / SEGMENT)).toBe(first);
        if (group.rolls) {
          this.segmentStart = group.startLsn;
          this.segmentBefore = group.previousEnd;
        }
        // What a header says that is not behind its segment's head: where the one before ends.
        if (group.durableLsn <= this.segmentStart) {
          expect(group.durableLsn).toBe(this.segmentBefore);
        }
        this.end = group.startLsn + group.bytes;
        if (effect.where === 'main') this.sealed();
        return;
      }
      case 'write':
        expect(this.writing).toBeUndefined();
        if (effect.group.rolls) {
          // The shell makes everything durable before it switches segments.
          expect(this.syncing).toBe(false);
          this.onDisk = this.written;
        }
        // What the entries claim to be durable is: the disk may be asked to prove it.
        expect(effect.group.durableLsn).toBeLessThanOrEqual(this.onDisk);
        if (this.acksDurableOnly) expect(effect.group.durableLsn).toBe(effect.group.previousEnd);
        this.writing = effect.group;
        return;
      case 'sync':
        expect(this.syncing).toBe(false);
        this.syncing = true;
        this.durable = this.written;
        return;
      case 'start-timer':
        this.timers++;
        return;
      case 'written':
        return;
      case 'durable':
        expect(effect.lsn).toBeLessThanOrEqual(this.onDisk);
        this.published += effect.groups.length;
        return;
      case 'suspended':
        this.closed -= effect.groups.length;
        this.openBytes = 0;
        this.suspended = true;
        return;
    }
  }

  /** The disk has no room: for the write, or for the segment that it wanted. */
  refuse(hasRolled: boolean): void {
    if (!this.writing) return;
    if (this.writing.rolls) {
      this.onDisk = Math.max(this.onDisk, this.written);
      if (hasRolled) this.open = this.writing.startLsn;
    }
    this.writing = undefined;
    this.openBytes = 0;
    this.step({ kind: 'refused' });
  }

  resume(): void {
    if (!this.suspended) return;
    this.suspended = false;
    const end = this.commit.durableLsn;
    this.end = end;
    this.written = end;
    this.segmentStart = this.open;
    if (end > this.open) this.segmentBefore = Number.NaN;
    else this.segmentBefore = end;
    this.step({ kind: 'resume', segment: { start: this.open, size: SEGMENT, end } });
  }

  sealed(): void {
    if (this.sealing === 0) return;
    this.sealing--;
    this.step({ kind: 'sealed' });
  }

  wrote(): void {
    if (!this.writing) return;
    if (this.writing.rolls) this.open = this.writing.startLsn;
    this.written = this.writing.startLsn + this.writing.bytes;
    this.writing = undefined;
    this.step({ kind: 'written' });
  }

  synced(): void {
    if (!this.syncing) return;
    this.syncing = false;
    this.onDisk = Math.max(this.onDisk, this.durable);
    this.step({ kind: 'synced' });
  }

  timer(): void {
    if (this.timers === 0) return;
    this.timers--;
    this.step({ kind: 'timer' });
  }
}

const MODES: FsyncMode[] = ['per-batch', 'per-write', { timerMs: 5 }, 'none'];

describe('group commit', () => {
  test.each(
    MODES,
  )('FAULT-99 %j: any order of events keeps the order of the log and its promises', (mode) => {
    const action = fc.oneof(
      fc.record({ kind: fc.constant('stage'), bytes: fc.integer({ min: 64, max: 400_000 }) }),
      fc.constantFrom({ kind: 'sealed' }, { kind: 'wrote' }, { kind: 'synced' }, { kind: 'timer' }),
      fc.constantFrom({ kind: 'full' }, { kind: 'roll' }, { kind: 'resume' }),
      fc.record({ kind: fc.constant('refuse'), hasRolled: fc.boolean() }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 120 }), (actions) => {
        const shell = new Shell(mode);
        for (const a of actions) {
          if (a.kind === 'resume') shell.resume();
          else if (shell.suspended) continue;
          else if (a.kind === 'refuse') shell.refuse((a as { hasRolled: boolean }).hasRolled);
          else if (a.kind === 'roll') shell.step({ kind: 'roll' });
          else if (a.kind === 'stage') {
            const { bytes } = a as { bytes: number };
            if (shell.openBytes + bytes > 500_000) shell.close();
            shell.stage(bytes);
          } else if (a.kind === 'sealed') shell.sealed();
          else if (a.kind === 'wrote') shell.wrote();
          else if (a.kind === 'synced') shell.synced();
          else if (a.kind === 'timer') shell.timer();
          else if (shell.openBytes > 0) shell.close();
        }
        for (let i = 0; i < 4; i++) {
          shell.sealed();
          shell.synced();
          shell.resume();
        }
        // The disk answers everything, the host flushes: nothing may be left behind.
        for (
          let i = 0;
          i < 1_000 && shell.published < shell.closed + Math.sign(shell.openBytes);
          i++
        ) {
          shell.step({ kind: 'sync' });
          shell.sealed();
          shell.wrote();
          shell.synced();
        }
        expect(shell.openBytes).toBe(0);
        expect(shell.published).toBe(shell.closed);
        expect(shell.onDisk).toBe(shell.end);
        expect(shell.commit.durableLsn).toBe(shell.end);
        expect(shell.commit.idle).toBe(true);
      }),
      { numRuns: 400 },
    );
  });

  test('nothing waits while the disk is free, and a small group is sealed on main', () => {
    const shell = new Shell('per-batch');
    shell.stage(100);
    expect(shell.writing).toMatchObject({ bytes: 100, startLsn: 0 });
    shell.stage(200);
    shell.stage(300);
    shell.wrote();
    expect(shell.writing).toBeUndefined();
    shell.synced();
    expect(shell.writing).toMatchObject({ bytes: 500, startLsn: 100, durableLsn: 100 });
  });

  test('a large group is sealed in the pool beside the fdatasync; its write waits', () => {
    const shell = new Shell('per-batch');
    shell.stage(100);
    shell.wrote();
    shell.stage(300_000);
    expect(shell.sealing).toBe(1);
    shell.sealed();
    expect(shell.writing).toBeUndefined();
    shell.synced();
    expect(shell.writing).toMatchObject({ startLsn: 100, durableLsn: 100 });
  });

  test('what nobody has asked an fdatasync for is bounded, in none mode as well', () => {
    const shell = new Shell('none');
    for (let n = 0; n < UNSYNCED_GROUPS_MAX + 10; n++) {
      shell.stage(1);
      shell.wrote();
      if (n === UNSYNCED_GROUPS_MAX - 2) expect(shell.commit.durableLsn).toBe(0);
    }
    shell.synced();
    expect(shell.commit.durableLsn).toBe(UNSYNCED_GROUPS_MAX);
  });

  test('FAULT-99 a roll that is taken back, sealed ahead, is no durable end', () => {
    const shell = new Shell({ timerMs: 5 });
    shell.stage(300_000);
    shell.sealed();
    shell.stage(400_000);
    shell.sealed();
    shell.wrote();
    // Is being written; the next one, that would roll, is sealed already.
    shell.stage(400_000);
    shell.sealed();
    expect(shell.writing).toMatchObject({ startLsn: 300_000 });
    shell.refuse(false);
    shell.synced();
    shell.resume();
    shell.stage(100);
    expect(shell.writing).toMatchObject({ startLsn: 300_000, durableLsn: 300_000 });
  });
});
