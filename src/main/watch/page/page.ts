/**
 * The page for people: asks the node every two seconds while somebody looks, draws what it says,
 * and says so when it says nothing. Asks nobody else.
 */
import type { ClusterJson } from '#src/main/watch/cluster/cluster-json.js';
import type { HistoryJson } from '#src/main/watch/history.js';
import type { StatusJson } from '#src/main/watch/status-json.js';
import type { RowsJson } from '#src/shared/metrics/rings.js';
import { charts } from './charts.js';
import { cluster } from './cluster.js';
import { day } from './day.js';
import { events } from './events.js';
import { links, nodeFigures } from './figures.js';
import { header, staleness } from './overview.js';
import { type ComponentChild, h, options, render } from './preact.js';
import { problems } from './problems.js';
import { shown } from './shown.js';
import { spaces } from './spaces.js';
import { type Choice, type Over, queryOf, readChoice, type View, writeChoice } from './view.js';
import { capital } from './words.js';

/** Until then its minutes say more than its day. */
const YOUNG_MS = 20 * 60_000;
const STEPS_MS: Readonly<Record<Over, RowsJson['stepMs']>> = { minutes: 1_000, day: 60_000 };
const POLL_MS = 2_000;
const ANSWER_TIMEOUT_MS = 5_000;
/** One lost answer is no silence. */
const SILENT_MS = 5_000;
/** Typing does not ask for every letter. */
const SEARCH_MS = 150;

const root = document.getElementById('page')!;
let status: StatusJson | undefined;
let history: HistoryJson = { agoMs: [], appended: [], replicas: [] };
let rows: RowsJson | undefined;
let rowsMs = Number.NEGATIVE_INFINITY;
/** It comes when all members have answered, or have not: nothing else waits for it. */
let members: ClusterJson | undefined;
let isAskingMembers = false;
let choice: Choice = readChoice(location.hash);
let trouble: string | undefined;
let heardMs = performance.now();
let timer: ReturnType<typeof setTimeout> | undefined;
let asked = 0;

function view(): View {
  const silentMs = performance.now() - heardMs;
  const isSilent = trouble !== undefined && (silentMs > SILENT_MS || !status);
  return { status, history, choice, trouble: isSilent ? trouble : undefined, silentMs };
}

function draw(): void {
  const now = view();
  const word = now.trouble === undefined ? status?.health : 'no answer';
  document.title = status ? shown(`${capital(word ?? '')}: ${status.nodeId}`) : 'engram-wal';
  render(page(now), root);
}

function page(now: View): ComponentChild {
  const isStale = now.trouble !== undefined;
  return h(
    'div',
    { class: `page ${isStale ? 'page-stale' : ''}` },
    header(now),
    staleness(now),
    status &&
      h(
        'main',
        {},
        problems(status, isStale, choose),
        cluster(members, status.node.at),
        charts(history, status.node.lagAlertThresholdMs),
        links(status),
        day(rows, overOf(status), choose),
        h('div', { class: 'two' }, events(status, choice, choose), nodeFigures(status)),
        spaces(status, choice, choose),
      ),
    footer(),
  );
}

function footer(): ComponentChild {
  const link = (to: string, text: string): ComponentChild => h('a', { href: to }, text);
  return h(
    'footer',
    { class: 'quiet' },
    link('/runbook', 'Handbook'),
    link('/metrics', 'Metrics'),
    link('/cluster/health', 'Health'),
    link('/cluster', 'Cluster'),
    link('/replication/status', 'Status'),
    link('/ready', 'Ready'),
  );
}

function choose(change: Partial<Choice>): void {
  const before = queryOf(choice);
  choice = { ...choice, ...change };
  // Replaced, not pushed: Back leaves the page instead of unpicking a search.
  window.history.replaceState(null, '', `${location.pathname}${writeChoice(choice)}`);
  draw();
  if (change.over !== undefined) again(0);
  else if (queryOf(choice) !== before) again(change.search === undefined ? 0 : SEARCH_MS);
}

/** A node that was opened a moment ago has no day to show. */
function overOf({ node }: StatusJson): Over {
  return choice.over ?? (node.uptimeMs > YOUNG_MS ? 'day' : 'minutes');
}

/** A row a minute is not asked for every two seconds. */
async function askDay(now: StatusJson): Promise<void> {
  const stepMs = STEPS_MS[overOf(now)];
  const isStale = performance.now() - rowsMs >= stepMs / 2 || rows?.stepMs !== stepMs;
  if (!isStale) return;
  rows = await get<RowsJson>(`/replication/day?stepMs=${stepMs}`);
  rowsMs = performance.now();
}

function again(ms: number): void {
  clearTimeout(timer);
  timer = setTimeout(() => void ask(), ms);
}

async function get<T>(path: string): Promise<T> {
  const response = await fetch(path, {
    headers: { accept: 'application/json' },
    signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
  });
  if (!response.ok) throw new Error(refusal(response.status));
  return (await response.json()) as T;
}

function refusal(code: number): string {
  if (code === 401) return 'it wants a token: load the page again';
  return code === 429 ? 'too many requests: it turns some away' : `it answers with ${code}`;
}

async function askMembers(): Promise<void> {
  if (isAskingMembers) return;
  isAskingMembers = true;
  try {
    members = await get<ClusterJson>('/cluster');
    draw();
  } catch {
    // Why the node does not answer, the next word on its status says.
  } finally {
    isAskingMembers = false;
  }
}

async function ask(): Promise<void> {
  const own = ++asked;
  clearTimeout(timer);
  void askMembers();
  try {
    const [first, second] = await Promise.all([
      get<StatusJson>(`/replication/status?${queryOf(choice)}`),
      get<HistoryJson>('/replication/history'),
    ]);
    await askDay(first);
    // Something else has been chosen meanwhile: its answer is under way.
    if (own !== asked) return;
    [status, history, trouble] = [first, second, undefined];
    heardMs = performance.now();
  } catch (error) {
    if (own !== asked) return;
    trouble = said(error);
  }
  draw();
  if (!document.hidden) again(POLL_MS);
}

function said(error: unknown): string {
  if (error instanceof DOMException) return `nothing came within ${ANSWER_TIMEOUT_MS / 1_000} s`;
  return error instanceof TypeError ? 'it cannot be reached' : (error as Error).message;
}

/** Whatever is drawn comes by here: names turn nothing around, and end no line. */
options.vnode = ({ type, props }) => {
  if (typeof type !== 'string') return;
  const own = props as Record<string, unknown>;
  for (const key of ['children', 'title', 'aria-label']) if (key in own) own[key] = clean(own[key]);
};

function clean(drawn: unknown): unknown {
  if (typeof drawn === 'string') return shown(drawn);
  return Array.isArray(drawn) ? drawn.map(clean) : drawn;
}

// Nobody looks: nothing is asked, and the first glance gets fresh figures.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) clearTimeout(timer);
  else void ask();
});
window.addEventListener('hashchange', () => {
  choice = readChoice(location.hash);
  void ask();
});
// The age of what is seen goes on growing while nothing comes.
setInterval(() => {
  if (trouble !== undefined) draw();
}, 1_000);

draw();
void ask();
