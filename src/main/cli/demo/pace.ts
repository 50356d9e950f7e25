/** What is done again and again beside other work, on one thread, and may take long. */
import { pause } from '../../runtime/deadline.js';

/** The rest behind a call, in times of what the call took: other work has 19 of 20 parts. */
const REST_TIMES = 19;

export interface Pace {
  nowMs(): number;
  pause(ms: number, until: AbortSignal): Promise<void>;
}

const realPace: Pace = { nowMs: () => performance.now(), pause };

/** Calls `work` every `everyMs` until the signal, and as seldom as leaves the thread to others. */
export async function paced(
  work: () => void,
  everyMs: number,
  until: AbortSignal,
  pace = realPace,
): Promise<void> {
  while (!until.aborted) {
    const began = pace.nowMs();
    work();
    const took = pace.nowMs() - began;
    await pace.pause(Math.max(everyMs, took * REST_TIMES), until);
  }
}
