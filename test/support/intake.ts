/** The receiving side of a node that has no log: what is taken is noted. */
import { expect } from 'vitest';
import { BatchIntake } from '#src/main/follow/batch-intake.js';
import type { ReceiverHost } from '#src/main/follow/host.js';
import type { SpaceState } from '#src/main/log/space-table.js';
import type { ReceivedRuns } from '#src/main/log/write/received-runs.js';
import { idWords, type SpaceIdWords } from '#src/shared/bytes.js';
import { FRAME_HEADER_BYTES } from '#src/shared/limits.js';
import { Receiver } from '#src/shared/link/receiver.js';
import { readSequence, readSpaceIdWord, readType } from '#src/shared/log/entry.js';
import { NODE_SPACE_ID } from '#src/shared/log/node-record.js';
import type { SpaceFacts } from '#src/shared/log/space-facts.js';
import { MEMBERS_ENTRY } from '#src/shared/members/members.js';
import { idOf } from '#src/shared/names.js';
import { FEATURE_MIXED } from '#src/shared/wire/batch.js';
import type { PlainFrame } from '#src/shared/wire/protocol.js';

export const NAMES = ['a', 'b', 'c', 'd'];
export const EPOCH = 2;

type SeenFacts = Pick<SpaceFacts, 'epochSeen'>;

/** A replica that follows NAMES in EPOCH, each with `had` entries, and has room as it is told. */
export class Replica {
  readonly receiver = new Receiver(0, 10_000);
  readonly sent: PlainFrame[] = [];
  readonly heard: string[] = [];
  readonly fenced: string[] = [];
  /** Space and sequence of each entry that was staged; how many in each call. */
  readonly staged: string[] = [];
  readonly calls: number[] = [];
  readonly intake: BatchIntake;
  readonly spaces: { slot: number; words: SpaceIdWords; name: string; facts: SeenFacts }[];
  /** Calls that find no room before each one that does. */
  refusals = 0;
  #refused = 0;
  readonly #groupBytes: number;

  constructor(had = 0, groupBytes = 100_000, features = FEATURE_MIXED) {
    this.#groupBytes = groupBytes;
    this.spaces = ['', ...NAMES].map((name, slot) => {
      const words = idWords(slot === 0 ? NODE_SPACE_ID : idOf(name));
      return { slot, words, name, facts: { epochSeen: EPOCH } };
    });
    for (const [i, _] of NAMES.entries()) {
      const position = { epoch: EPOCH, sequence: had, headerCrc: 0 };
      const row = { handle: 10 + i, answer: 'follows', epochSeen: EPOCH, position, applied: 0 };
      this.receiver.follow(1 + i, row as never, EPOCH);
      this.receiver.verdict({ handle: 10 + i, verdict: 'continue', next: had + 1 });
    }
    const wal = {
      groupBytes,
      isCrowded: false,
      stageReceived: (bytes: Uint8Array, runs: ReceivedRuns) => this.#stage(bytes, runs),
      whenRoom: async (retry: () => boolean) => {
        while (!retry());
      },
    };
    const host = {
      wal,
      maxEntryBytes: 1_024,
      maxFrameBytes: 100_000,
      spaceByWords: (words: SpaceIdWords) =>
        this.spaces.find((space) => space.words.every((word, i) => word === words[i])),
      slotAt: (view: DataView, at: number) =>
        this.spaces.find((s) =>
          s.words.every((word, i) => word === view.getUint32(at + 4 * i, true)),
        )?.slot ?? -1,
      epochSeen: (slot: number) => this.spaces.find((s) => s.slot === slot)!.facts.epochSeen,
      heard: (space: SpaceState, epoch: number) => this.hear(space, epoch),
    };
    this.intake = new BatchIntake(host as unknown as ReceiverHost, this.receiver, {
      send: (frame) => this.sent.push(frame),
      duplicate: () => undefined,
      fence: (space) => this.fence(space),
      isEnded: () => false,
    });
    this.intake.features = features;
  }

  #stage(bytes: Uint8Array, runs: ReceivedRuns): boolean {
    if (this.#refused++ < this.refusals) return false;
    this.#refused = 0;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    let at = 0;
    for (let run = 0; run < runs.length; run++) {
      const space = this.spaces[runs.slot(run)]!;
      const end = at + runs.bytesOf(run);
      for (let n = 0; n < runs.count(run); n++) {
        expect(readSequence(view, at)).toBe(runs.first(run) + n);
        expect(readSpaceIdWord(view, at, 0)).toBe(space.words[0]);
        if (readType(view, at) === MEMBERS_ENTRY) expect(runs.holdsMembers).toBe(true);
        this.staged.push(`${space.name}${runs.first(run) + n}`);
        at += 64 + view.getUint32(at + 24, true);
      }
      expect(at).toBe(end);
    }
    expect(at).toBe(bytes.length);
    expect(at).toBeLessThanOrEqual(this.#groupBytes);
    this.calls.push(runs.length);
    return true;
  }

  hear({ slot }: Pick<SpaceState, 'slot'>, epoch: number): void {
    this.heard.push(`${slot} ${epoch}`);
  }

  fence({ slot, facts }: { slot: number; facts: SeenFacts }): void {
    this.fenced.push(`${slot}`);
    this.receiver.fence(slot, facts.epochSeen);
  }

  async take(...frames: Uint8Array[]): Promise<void> {
    for (const frame of frames) await this.intake.take(frame.subarray(FRAME_HEADER_BYTES));
  }

  nacks(): string[] {
    return this.sent.map((f) => (f.kind === 'nack' ? `${f.handle} expects ${f.expected}` : f.kind));
  }
}
