/** What part of the work a function belongs to: by its file, so that new functions find theirs. */

/** A function as a profile names it. */
export interface Frame {
  readonly functionName: string;
  readonly url: string;
}

/** A thread that waits uses no processor; nor does what watches it belong to the work. */
const WAITS: ReadonlySet<string> = new Set(['(idle)', 'Atomics.wait', 'fdatasync', 'dispatch']);

const BY_FILE: readonly (readonly [RegExp, string])[] = [
  [/^wasm|dist\/shared\/kernel\//, 'kernels'],
  [/node_modules\/piscina/, 'handing to the pool'],
  [/node_modules\//, 'other packages'],
  [/dist\/shared\/crc\./, 'sums (CRC32C)'],
  [/dist\/shared\/log\/(entry|seal|stamp)/, 'headers and stamps'],
  [
    /dist\/(shared\/host-input|main\/log\/wal|main\/log\/write\/open-group|main\/node\/)/,
    'staging',
  ],
  [/dist\/(main\/log\/write\/publication|main\/segments\/)/, 'publication and index'],
  [/dist\/(shared\/log\/|main\/log\/|workers\/log-writer|workers\/sealer)/, 'group commit'],
  [/dist\/shared\/memory\//, 'shared words, waking'],
  [
    /dist\/(workers\/ship|shared\/wire\/batches\/frame-builder|shared\/link\/sender)/,
    'filling frames',
  ],
  [/dist\/(shared\/wire|main\/follow|shared\/link\/receiver)/, 'frames taken and checked'],
  [/dist\/(main\/ship|shared\/link)/, 'acknowledgements, lag'],
  [/dist\//, 'the rest of ours'],
  [/bench\//, 'the benchmark'],
];

/** undefined: it waits. */
export function stageOf({ functionName, url }: Frame, thread: string): string | undefined {
  if (WAITS.has(functionName)) return undefined;
  if (functionName === '(garbage collector)') return 'garbage collection';
  if (functionName.startsWith('write') && url === '') {
    return thread === 'log-writer' ? 'write to the file' : 'write to sockets';
  }
  if (functionName === 'postMessage' && url === '') return 'messages between threads';
  const known = BY_FILE.find(([file]) => file.test(url));
  if (known) return known[1];
  if (url.startsWith('node:')) return 'Node: promises, sockets, timers';
  return 'event loop and other native code';
}

/** What a thread wrote down, see children/threads.cjs. Times in microseconds. */
export interface Profile {
  readonly thread: string;
  readonly nodes: readonly { readonly id: number; readonly callFrame: Frame }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
  readonly startTime: number;
}

/** Of the time in which the thread did not wait: the part of each stage. Sums to 1. */
export function sharesOf(profile: Profile, fromMs: number, toMs: number): Map<string, number> {
  const frames = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame]));
  const spent = new Map<string, number>();
  let total = 0;
  let at = profile.startTime;
  for (const [n, id] of profile.samples.entries()) {
    const took = profile.timeDeltas[n]!;
    at += took;
    if (at < fromMs * 1e3 || at > toMs * 1e3) continue;
    const stage = stageOf(frames.get(id)!, profile.thread);
    if (stage === undefined) continue;
    spent.set(stage, (spent.get(stage) ?? 0) + took);
    total += took;
  }
  return new Map([...spent].map(([stage, took]) => [stage, took / total]));
}
