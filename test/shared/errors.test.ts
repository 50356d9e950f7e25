import { describe, expect, test } from 'vitest';
import {
  assert,
  EngramError,
  ERROR_CODES,
  type ErrorCode,
  failure,
  firstLine,
  MemorySpaceError,
  ReplicationError,
  StorageError,
} from '#src/shared/errors.js';

const CLASSES = { StorageError, MemorySpaceError, ReplicationError };

/** The families as DESIGN 11 lists them; codes that it does not list are checked for one family. */
const LISTED: Partial<Record<ErrorCode, keyof typeof CLASSES>> = {
  Io: 'StorageError',
  CorruptionDetected: 'StorageError',
  ChecksumMismatch: 'StorageError',
  WalFailed: 'StorageError',
  DiskFull: 'StorageError',
  Configuration: 'StorageError',
  Locked: 'StorageError',
  WrongUser: 'StorageError',
  Backpressure: 'StorageError',
  EntryTooLarge: 'StorageError',
  Trimmed: 'StorageError',
  SpaceUnknown: 'MemorySpaceError',
  DataRootUnavailable: 'MemorySpaceError',
  MaxRetriesExceeded: 'ReplicationError',
  RetentionFull: 'StorageError',
  UnsupportedVersion: 'ReplicationError',
  EmptyBatch: 'ReplicationError',
  InvalidBatchSize: 'ReplicationError',
  TruncatedBatch: 'ReplicationError',
  TruncatedEntry: 'ReplicationError',
  ConnectionTimeout: 'ReplicationError',
  Repairing: 'StorageError',
  ConnectionRefused: 'ReplicationError',
  ConnectionLost: 'ReplicationError',
  ReplicaNotFound: 'ReplicationError',
  Fenced: 'ReplicationError',
  Fork: 'ReplicationError',
  NotPrimary: 'ReplicationError',
  StalePrimary: 'ReplicationError',
  NotEnoughReplicas: 'ReplicationError',
  AckTimeout: 'ReplicationError',
};

describe('errors', () => {
  test('codes are distinct and PascalCase, and every listed one exists', () => {
    expect(new Set(ERROR_CODES).size).toBe(ERROR_CODES.length);
    for (const code of ERROR_CODES) expect(code).toMatch(/^[A-Z][a-zA-Z]+$/);
    expect(ERROR_CODES).toEqual(expect.arrayContaining(Object.keys(LISTED)));
  });

  test.each(ERROR_CODES)('%s: one family, its code, what was found, three lines', (code) => {
    const error = failure(code, 'a needle was found');
    const family = LISTED[code] ?? (error.name as keyof typeof CLASSES);
    expect(error).toBeInstanceOf(EngramError);
    for (const [name, type] of Object.entries(CLASSES)) {
      expect(error instanceof type, name).toBe(name === family);
    }
    expect(error.name).toBe(family);
    expect(error.code).toBe(code);
    expect(typeof error.retryable).toBe('boolean');
    const lines = [error.expected, error.remedy, error.example];
    for (const line of lines) {
      expect(line.trim()).not.toBe('');
      expect(line).not.toContain('\n');
    }
    expect(error.message).toBe(
      [
        `${code}: a needle was found`,
        `  expected: ${error.expected}`,
        `  to do: ${error.remedy}`,
        `  example: ${error.example}`,
      ].join('\n'),
    );
  });

  test('an error told within another is one line, and says its code once', () => {
    const disk = failure('DiskFull', 'write of log-1 failed: ENOSPC');
    const inner = failure('DiskFull', `the state: ${disk.message}`, { cause: disk });
    const outer = failure('WalFailed', `the log has failed: ${inner.message}`, { cause: inner });
    expect(inner.message.split('\n')[0]).toBe('DiskFull: the state: write of log-1 failed: ENOSPC');
    expect(outer.message.split('\n')).toEqual([
      'WalFailed: the log has failed: DiskFull: the state: write of log-1 failed: ENOSPC',
      `  expected: ${outer.expected}`,
      `  to do: ${outer.remedy}`,
      `  example: ${outer.example}`,
    ]);
    expect(failure('WalFailed', outer.message).message).toBe(outer.message);
    // Of others, nothing is lost.
    expect(failure('Io', 'a\nb').message.split('\n')[0]).toBe('Io: a\\u{a}b');
    expect(firstLine(outer)).toBe(outer.message.split('\n')[0]);
    expect([firstLine('x\ny'), firstLine(undefined)]).toEqual(['x', 'undefined']);
  });

  test('cause and details are kept; without them there are none', () => {
    const cause = new Error('EIO');
    const error = failure('Io', 'x', { cause, details: { path: 'a' } });
    expect(error.cause).toBe(cause);
    expect(error.details).toEqual({ path: 'a' });
    const plain = failure('Io', 'x');
    expect('cause' in plain).toBe(false);
    expect(plain.details).toEqual({});
  });

  test('a broken assertion is a bug of ours, not one of the codes', () => {
    expect(() => assert(true, 'x')).not.toThrow();
    expect(() => assert(false, 'x fell')).toThrow('engram-wal bug: x fell');
  });
});
