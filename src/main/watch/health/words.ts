/**
 * How well something is, in one word; and what whoever reads it must do: the one owner of both, for
 * the page, the JSON, the probes, the command line and its exit codes.
 */

/**
 * From good to bad. `degraded`: less safe than it should be, and appends go on. `failed`: appends
 * are refused, or what is appended has no copy that it should have. `corrupt`: acknowledged data
 * cannot be read.
 */
export const HEALTH_WORDS = ['healthy', 'lagging', 'degraded', 'failed', 'corrupt'] as const;
export type HealthWord = (typeof HEALTH_WORDS)[number];

/** `soon`: in working hours; `now`: somebody is to be woken. */
export type Todo = 'nothing' | 'soon' | 'now';

const MEANS: Readonly<Record<HealthWord, { readonly todo: Todo; readonly exitCode: number }>> = {
  healthy: { todo: 'nothing', exitCode: 0 },
  lagging: { todo: 'nothing', exitCode: 0 },
  degraded: { todo: 'soon', exitCode: 1 },
  failed: { todo: 'now', exitCode: 2 },
  corrupt: { todo: 'now', exitCode: 3 },
};

export function todoOf(word: HealthWord): Todo {
  return MEANS[word].todo;
}

/** Of `engram-wal status`; 4 is wrong usage. */
export function exitCodeOf(word: HealthWord): number {
  return MEANS[word].exitCode;
}

/** For `--help`. */
export const EXIT_CODES_TEXT = `Exit codes:
  0  nothing to do
  1  something to do soon
  2  something to do now; or it failed, or does not answer
  3  acknowledged data is corrupt: wins over the others
  4  wrong usage; a space that is not there`;

export function worse(a: HealthWord, b: HealthWord): HealthWord {
  return HEALTH_WORDS.indexOf(b) > HEALTH_WORDS.indexOf(a) ? b : a;
}

/** Milliseconds as people say them. */
export function lagText(ms: number | 'unknown'): string {
  if (ms === 'unknown' || !Number.isFinite(ms)) return 'unknown';
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${(ms / 1_000).toFixed(1)} s`;
  const minutes = Math.round(ms / 60_000);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}
