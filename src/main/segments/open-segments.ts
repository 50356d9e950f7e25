/** Segments that are being read: one open file each, however many readers are in it, and pinned. */
import type { Disk, DiskFile } from './disk.js';
import type { Segment, Segments } from './segments.js';

export class OpenSegments {
  readonly #disk: Disk;
  readonly #segments: Segments;
  readonly #files = new Map<Segment, { file: Promise<DiskFile>; readers: number }>();

  constructor(disk: Disk, segments: Segments) {
    this.#disk = disk;
    this.#segments = segments;
  }

  /** Pinned when this returns, before anything is awaited: from now on it is not freed. */
  enter(segment: Segment): Promise<DiskFile> {
    let open = this.#files.get(segment);
    if (!open) {
      const file = this.#disk.open(this.#segments.pathOf(segment.start), 'read');
      open = { file, readers: 0 };
      this.#files.set(segment, open);
      this.#segments.pin(segment);
      file.catch(() => {
        this.#files.delete(segment);
        this.#segments.unpin(segment);
      });
    }
    open.readers++;
    return open.file;
  }

  /** Once for each `enter` that has resolved. */
  async leave(segment: Segment): Promise<void> {
    const open = this.#files.get(segment);
    if (!open || --open.readers > 0) return;
    this.#files.delete(segment);
    try {
      await (await open.file).close();
    } finally {
      this.#segments.unpin(segment);
    }
  }

  /** Reads a segment that cannot be recycled meanwhile. */
  async within<T>(segment: Segment, work: (file: DiskFile) => Promise<T>): Promise<T> {
    const file = await this.enter(segment);
    try {
      return await work(file);
    } finally {
      await this.leave(segment);
    }
  }
}
