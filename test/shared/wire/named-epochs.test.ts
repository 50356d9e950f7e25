import { expect, test } from 'vitest';
import { FRAME_HEADER_BYTES } from '#src/shared/limits.js';
import { idOf } from '#src/shared/names.js';
import { epochsNamed } from '#src/shared/wire/named-epochs.js';
import type { StandingRow } from '#src/shared/wire/peer-frames.js';
import { batchFrame } from '../../support/wire-client.js';

const NONE = { epoch: 0, sequence: 0, headerCrc: 0 };

const ROW: StandingRow = {
  id: idOf('s'),
  isKnown: true,
  role: 'replica',
  epoch: 3,
  epochSeen: 3,
  primary: 'p',
  position: NONE,
  flushed: 0,
  applied: 0,
  first: 0,
  isWhole: true,
  history: [],
  directoryId: undefined,
  sets: [],
  founder: undefined,
  isFounded: false,
  protocol: 1,
};

/** By "epoch leader". */
function named(change: Partial<StandingRow>): string[] {
  const rows = [{ ...ROW, ...change }];
  return epochsNamed({ kind: 'standing', rows }, 'n').map((e) => `${e.epoch} ${e.leader}`);
}

test('FAULT-111 a standing row names its epoch, who leads in it, and the one it has seen', () => {
  expect(named({})).toEqual(['3 p', '3 undefined']);
  expect(named({ role: 'primary', primary: 'n' })).toEqual(['3 n', '3 undefined']);
  // Whom it follows may be the leader of the one that it has seen since.
  expect(named({ epochSeen: 5 })).toEqual(['3 undefined', '5 undefined']);
  expect(named({ primary: '' })).toEqual(['3 undefined', '3 undefined']);
  expect(named({ isKnown: false, epochSeen: 9 })).toEqual([]);
});

test('FAULT-111 what the other answers and questions of a peer call name', () => {
  const id = idOf('s');
  const position = { ...NONE, epoch: 4 };
  const told = { id, epochSeen: 6, position, reason: '' };
  const promised = { kind: 'promised', isGranted: false, ...told } as const;
  expect(epochsNamed(promised, 'n')).toEqual([{ id, epoch: 6, leader: undefined }]);
  const rows = [{ id, isGranted: true, epochSeen: 6, position, reason: '' }];
  const given = { kind: 'promises-given', rows } as const;
  expect(epochsNamed(given, 'n')).toEqual([{ id, epoch: 6, leader: undefined }]);
  const tip = { id, leads: true, epoch: 6, sequence: 9 };
  const tips = { kind: 'tips', rows: [tip, { ...tip, leads: false, epoch: 7 }] } as const;
  expect(epochsNamed(tips, 'n')).toEqual([{ id, epoch: 6, leader: 'n' }]);
  const took = { kind: 'took-over', id, epoch: 7, code: '', reason: '' } as const;
  expect(epochsNamed(took, 'n')).toEqual([{ id, epoch: 7, leader: 'n' }]);
  const over = { kind: 'take-over', id, position, handover: 1n } as const;
  expect(epochsNamed(over, 'n')).toEqual([{ id, epoch: 4, leader: undefined }]);
  // It is proposed, and nobody's yet.
  const candidate = { nodeId: 'n', host: '', port: 0 };
  const promise = { kind: 'promise', id, epoch: 9, candidate, handover: 0n } as const;
  expect(epochsNamed(promise, 'n')).toEqual([]);
  // As an answer brings it: without the header of a frame of batches, and its length.
  const frame = batchFrame('s', 1, 2, 8);
  const batch = frame.subarray(FRAME_HEADER_BYTES + 4);
  const entries = { kind: 'entries', batch } as const;
  expect(epochsNamed(entries, 'n')).toEqual([{ id, epoch: 8, leader: undefined }]);
});
