/** What the host holds of the spaces of a node: one handle each. */

import type { SpaceState } from '../log/space-table.js';
import { makeSpace, type Space, type SpaceParts } from './space.js';

export class SpaceHandles {
  readonly #make: () => SpaceParts;
  readonly #all = new Map<SpaceState, Space>();
  #parts: SpaceParts | undefined;

  /** @param make asked once, when the first handle is wanted: then all parts are there */
  constructor(make: () => SpaceParts) {
    this.#make = make;
  }

  of(state: SpaceState): Space {
    let handle = this.#all.get(state);
    if (!handle) {
      this.#parts ??= this.#make();
      handle = makeSpace(this.#parts, state);
      this.#all.set(state, handle);
    }
    return handle;
  }
}
