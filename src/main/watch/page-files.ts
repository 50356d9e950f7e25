/**
 * The files of the page for people, read once: a closed list, so that no path leads elsewhere.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs/promises';
import { loadHandbook } from './handbook.js';

export interface PageFile {
  /** Of the URL. */
  readonly path: string;
  readonly type: string;
  readonly bytes: Buffer;
  readonly etag: string;
}

const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
};
const FOLDER = new URL('./page/', import.meta.url);
/** Drawing is left to a library; browsers are given it under a path, as they resolve no names. */
const ELSEWHERE = [
  { path: '/preact.js', url: import.meta.resolve('preact') },
  { path: '/shown.js', url: import.meta.resolve('../../shared/shown.js') },
];

export async function loadPage(): Promise<PageFile[]> {
  const names = (await fs.readdir(FOLDER)).filter((name) => TYPES[ending(name)] !== undefined);
  const loaded = await Promise.all([
    ...names.map((name) => load(name === 'index.html' ? '/' : `/${name}`, new URL(name, FOLDER))),
    ...ELSEWHERE.map(({ path, url }) => load(path, new URL(url))),
  ]);
  return [...loaded, fileOf('/runbook', 'html', await loadHandbook())];
}

function ending(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1);
}

async function load(path: string, url: URL): Promise<PageFile> {
  const kind = ending(path === '/' ? 'index.html' : path);
  return fileOf(path, kind, await fs.readFile(url));
}

function fileOf(path: string, kind: string, bytes: Buffer): PageFile {
  const digest = createHash('sha256').update(bytes).digest('base64url').slice(0, 22);
  return { path, type: TYPES[kind]!, bytes, etag: `"${digest}"` };
}
