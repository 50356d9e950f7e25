/** A disk, and how many bytes were read from it. */
import type { Disk, DiskFile } from '#src/main/segments/disk.js';

export class CountingDisk {
  bytes = 0;
  readonly disk: Disk;

  constructor(real: Disk) {
    this.disk = {
      ...real,
      open: (...asked) => real.open(...asked).then((file) => this.#counted(file)),
    };
  }

  #counted(opened: DiskFile): DiskFile {
    const read = async (into: Uint8Array, position: number): Promise<number> => {
      const got = await opened.read(into, position);
      this.bytes += got;
      return got;
    };
    return new Proxy(opened, {
      get: (target: DiskFile, name: keyof DiskFile) => {
        const value = name === 'read' ? read : target[name];
        return typeof value === 'function' ? value.bind(target) : value;
      },
      // A file that is renamed while it is open gets its new name.
      set: (target, name, value) => Reflect.set(target, name, value),
    });
  }

  /** What the work has read. */
  async of(work: () => Promise<unknown>): Promise<number> {
    const before = this.bytes;
    await work();
    return this.bytes - before;
  }
}
