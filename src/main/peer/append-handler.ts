/** Takes appends that members lead to this node, as if its own host had made them. */
import { EngramError, firstLine } from '../../shared/errors.js';
import type { Epoch, Sequence } from '../../shared/position.js';
import type { AppendAsk } from '../../shared/wire/append-frames.js';
import type { PlainFrame } from '../../shared/wire/protocol.js';
import type { PeerHandlers } from './answers.js';

const MESSAGE_MAX_CHARACTERS = 200;

/** Rejects as `Space.append` does, and SpaceUnknown. */
export type TakeAppend = (ask: AppendAsk) => Promise<{ sequence: Sequence; epoch: Epoch }>;

export function appendHandler(take: TakeAppend): PeerHandlers {
  return {
    'append-ask': async function* (ask): AsyncGenerator<PlainFrame> {
      yield await take(ask).then(
        ({ sequence, epoch }): PlainFrame => ({ kind: 'appended', id: ask.id, sequence, epoch }),
        (error) => refusalOf(ask.id, error),
      );
    },
  };
}

function refusalOf(id: string, error: unknown): PlainFrame {
  if (!(error instanceof EngramError)) throw error;
  const { last = 0, epoch = 0 } = error.details as { last?: Sequence; epoch?: Epoch };
  const isConflict = error.code === 'SequenceConflict';
  const message = firstLine(error).slice(0, MESSAGE_MAX_CHARACTERS);
  const where = isConflict ? { last, epoch } : { last: 0, epoch: 0 };
  return { kind: 'append-refused', id, code: error.code, message, ...where };
}
