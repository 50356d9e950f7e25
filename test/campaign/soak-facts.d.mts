export const SPACES: readonly string[];
export const OPTIONS: {
  readonly clusterId: string;
  readonly segmentBytes: number;
  readonly maxEntryBytes: number;
  readonly backoffStepsMs: readonly number[];
};
export function payloadOf(life: number, space: string, count: number): Buffer;
export function offerOf(
  payload: Uint8Array,
): { life: number; space: string; count: number } | undefined;
