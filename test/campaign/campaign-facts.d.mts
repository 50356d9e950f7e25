export const NAMES: readonly string[];
export const SIZES: Readonly<Record<string, number>>;
export function random(seed: number): (below: number) => number;
export function payloadOf(seed: number, attempt: number, index: number, count: number): Buffer;
export function digestOf(payload: Uint8Array): string;
