/** What the mode of a file or directory lets others do than its owner. */

/** As the system tells it. */
export interface Modes {
  readonly mode: number;
  readonly gid: number;
}

export const MAY_READ = 4;
export const MAY_WRITE = 2;
export const MAY_ENTER = 1;

/**
 * What others may do: those of no group, and those of a group that is none of `groups`. Who is in
 * a group of the process itself is the administrator's choice (`fsGroup` of Kubernetes).
 */
export function othersMay({ mode, gid }: Modes, groups: readonly number[]): number {
  const ofGroup = groups.includes(gid) ? 0 : (mode >> 3) & 7;
  return (mode & 7) | ofGroup;
}

/** As `ls` and `chmod` have it: 0755. */
export function modeText({ mode }: Modes): string {
  return (mode & 0o7777).toString(8).padStart(4, '0');
}
