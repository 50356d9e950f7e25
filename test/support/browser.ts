/** Debian's Chromium, without a screen; and what it saw of a page. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import axe from 'axe-core';
import { type Browser, chromium, type Page } from 'playwright-core';
import { CHROMIUM, NEEDS, requireHere } from './needs.js';

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export async function openBrowser(): Promise<Browser> {
  requireHere(NEEDS.chromium);
  return await chromium.launch({ executablePath: CHROMIUM!, args: FLAGS });
}

/** What a page has asked for and complained of. */
export interface Seen {
  readonly page: Page;
  readonly hosts: Set<string>;
  readonly complaints: string[];
}

export async function openPage(browser: Browser, url: string): Promise<Seen> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  const hosts = new Set<string>();
  const complaints: string[] = [];
  page.on('request', (request) => hosts.add(new URL(request.url()).host));
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(error.message));
  await page.goto(url);
  return { page, hosts, complaints };
}

/** What axe finds that keeps people from using the page, as lines. */
export async function barriers(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  const found = await page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: typeof import('axe-core') };
    return (await axe.run()).violations;
  });
  return found.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(' ')}`));
}

const LOOKS = [
  { name: 'light', colorScheme: 'light', width: 1280, height: 900 },
  { name: 'dark', colorScheme: 'dark', width: 1280, height: 900 },
  { name: 'phone-light', colorScheme: 'light', width: 390, height: 844 },
  { name: 'phone-dark', colorScheme: 'dark', width: 390, height: 844 },
] as const;

export type LookName = (typeof LOOKS)[number]['name'];

/**
 * Pictures of the whole page in each look, in PAGE_SHOTS or the system's temporary folder; checks
 * on the way that nothing is wider than the window and nobody is kept out.
 * @returns what is wrong, as lines
 */
export async function photograph(
  page: Page,
  name: string,
  looks: readonly LookName[] = LOOKS.map((look) => look.name),
): Promise<string[]> {
  const folder = process.env.PAGE_SHOTS ?? path.join(os.tmpdir(), 'engram-wal-page');
  fs.mkdirSync(folder, { recursive: true });
  const wrong: string[] = [];
  for (const look of LOOKS.filter((one) => looks.includes(one.name))) {
    await page.setViewportSize({ width: look.width, height: look.height });
    await page.emulateMedia({ colorScheme: look.colorScheme });
    // Two frames: the charts take their new width.
    await page.evaluate(
      'new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))',
    );
    await page.screenshot({ path: path.join(folder, `${name}-${look.name}.png`), fullPage: true });
    const wide: number = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
    if (wide > 0) wrong.push(`${look.name}: ${wide} px too wide`);
    wrong.push(...(await barriers(page)).map((line) => `${look.name}: ${line}`));
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  return wrong;
}
