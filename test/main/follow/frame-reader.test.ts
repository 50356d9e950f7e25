/** Frames that had arrived when reading was stopped. */
import { EventEmitter } from 'node:events';
import { expect, test } from 'vitest';
import { FrameReader } from '#src/main/follow/frame-reader.js';
import type { ByteSocket } from '#src/shared/wire/byte-socket.js';
import { FrameBuffers } from '#src/shared/wire/frame.js';
import { decodeFrame, encodeFrame, type Frame } from '#src/shared/wire/protocol.js';

class Fake extends EventEmitter {
  readonly destroyed = false;
  isPaused = false;
  pause(): void {
    this.isPaused = true;
  }
  resume(): void {
    this.isPaused = false;
  }
}

test('what waits for a work is as it came, though its memory is read into again', async () => {
  const socket = new Fake();
  const taken: Frame[] = [];
  let done = (): void => undefined;
  const reader = new FrameReader(socket as unknown as ByteSocket, new FrameBuffers(), {
    heard: () => undefined,
    take: (kind, body) => {
      taken.push(decodeFrame(kind, body));
      reader.during(
        new Promise((resolve) => {
          done = resolve;
        }),
      );
    },
    refuse: (error) => expect.unreachable(String(error)),
  });
  const frames = ['one', 'two', 'three'].map((message) =>
    encodeFrame({ kind: 'bye', fatal: false, code: 'Io', message }),
  );
  const chunk = new Uint8Array(Buffer.concat(frames));
  socket.emit('data', chunk);
  chunk.fill(0xee);
  for (let n = 0; n < frames.length; n++) {
    expect(socket.isPaused).toBe(true);
    expect(taken[n]).toMatchObject({ message: ['one', 'two', 'three'][n] });
    done();
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(taken.length).toBe(3);
  expect(socket.isPaused).toBe(false);
});
