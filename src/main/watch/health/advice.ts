/**
 * What to do about each kind of problem, and what to type: the one owner of these words, for the
 * page, the JSON and `engram-wal status`. The chapter of the handbook has the rest.
 */
import { hasHidden, shellWord } from '../../../shared/shown.js';
import type { ProblemKind } from './kinds.js';

/** A command for a shell; `DIR`, `N` and the like are for the reader to fill in. */
export interface Step {
  /** On the machine of which node; empty: of the one that tells it. */
  readonly on: string;
  readonly command: string;
}

export interface Advice {
  readonly text: string;
  readonly steps: readonly Step[];
}

/** SUBJECT is the replica or primary that the problem names, SPACE its first space. */
interface Template {
  readonly text: string;
  readonly here?: readonly string[];
  readonly there?: readonly string[];
}

const LOOK_AT_IT: Template = {
  text: 'Look at SUBJECT: its process, its disk, the network between. It catches up by itself',
  there: ['systemctl status engram-wal', 'engram-wal status'],
};
const WHO_LEADS: Template = {
  text: 'Look who leads: two nodes may believe that they do',
  here: ['engram-wal locate DIR --space SPACE', 'engram-wal promote DIR --space SPACE --dry-run'],
};
const ETCD: Template = {
  text: 'Bring etcd or the network to it back; the node goes on by itself',
  here: ['etcdctl endpoint health'],
};

const TEMPLATES: Readonly<Record<ProblemKind, Template>> = {
  'log-failed': {
    text: 'Mend or replace the disk, then restart the node: it reads back what is really there',
    here: ['dmesg --level err,warn', 'systemctl restart engram-wal'],
  },
  'log-read-only': {
    text: 'Make room, or mend what the reason names. The log goes on by itself, without a restart',
    here: ['df -h DIR'],
  },
  'slow-disk': {
    text: 'Look what else uses the disk, and whether it fails. Nothing is lost, appends are slow',
    here: ['dmesg --level err,warn'],
  },
  'disk-full-soon': {
    text: 'Make room, or let the host checkpoint what it does not need any more',
    here: ['df -h DIR', 'engram-wal checkpoint DIR --space NAME --sequence N'],
  },
  'retention-full': {
    text: 'The host must checkpoint what it does not need any more, or maxRetainedBytes be raised',
    here: ['engram-wal checkpoint DIR --space NAME --sequence N'],
  },
  damaged: {
    text:
      'Copy the directory, look at the disk. A removed member or a backup may have the entries; ' +
      'only where nobody has them, close the node and accept the loss',
    here: ['engram-wal verify DIR', 'engram-wal accept-loss DIR --space SPACE'],
  },
  repairing: {
    text: 'Start the members that the reason names: the repair goes on by itself',
    here: ['engram-wal status --space SPACE'],
  },
  refused: WHO_LEADS,
  'replica-failed': {
    text: 'Mend what the reason names, or start SUBJECT again: it catches up by itself',
    there: ['systemctl restart engram-wal', 'engram-wal status'],
  },
  'replica-lagging': LOOK_AT_IT,
  'never-connected': {
    text: 'Look at its address in `replicas`, its process, the firewall between',
    there: ['systemctl status engram-wal'],
  },
  learner: {
    text: 'Bring the members back. If the old directory of SUBJECT is gone for good, exchange it',
    here: [
      'engram-wal space DIR --space SPACE',
      'engram-wal remove-replica DIR --node SUBJECT --force',
      'engram-wal add-replica DIR --node SUBJECT --host HOST --port PORT',
    ],
  },
  silent: LOOK_AT_IT,
  stalled: LOOK_AT_IT,
  'slot-unreserved': {
    text: 'Bring SUBJECT back now, or raise maxSlotBytes: what it lacks is about to be given up',
    there: ['systemctl restart engram-wal', 'engram-wal status'],
  },
  'slot-lost': {
    text: 'Bring SUBJECT back: with the hooks snapshot and restore it gets one; else remove it',
    there: ['systemctl restart engram-wal'],
    here: ['engram-wal remove-replica DIR --node SUBJECT'],
  },
  'rewind-needed': {
    text: 'It takes back by itself what it has alone. Where that lasts, look at it',
    there: ['engram-wal status'],
  },
  'snapshot-needed': {
    text: 'Give the hooks snapshot and restore to both nodes, or remove it and take it in empty',
    here: ['engram-wal remove-replica DIR --node SUBJECT'],
  },
  fenced: WHO_LEADS,
  forked: {
    text: 'Two nodes have led on their own. Decide whose history stays, before anything else',
    here: ['engram-wal promote DIR --space SPACE --dry-run'],
    there: ['engram-wal promote DIR --space SPACE --dry-run'],
  },
  regressed: {
    text: 'It has lost what it had acknowledged: an old copy, or a disk that lies. Look at both',
    there: ['engram-wal verify DIR'],
  },
  'apply-blocked': {
    text: 'Mend the host of this node; or close the node, and skip the entry',
    here: ['engram-wal skip DIR --space SPACE --sequence N'],
  },
  leaderless: {
    text: 'Start the nodes of the space again. Where they are gone, see what another would lose',
    here: ['engram-wal promote DIR --space SPACE --dry-run'],
  },
  'primary-gone': {
    text: 'Start SUBJECT again. Where it is gone for good, promote the node that lacks nothing',
    there: ['systemctl restart engram-wal'],
    here: ['engram-wal promote DIR --of SUBJECT --dry-run'],
  },
  'primary-stalled': {
    text: 'Look at the CPU of SUBJECT; restart it where that does not end',
    there: ['systemctl restart engram-wal'],
  },
  'lease-lost': ETCD,
  'coordinator-away': ETCD,
  'certificate-expires': {
    text: 'Put a new certificate and its key in place; they are taken without a restart',
    here: ['engram-wal cert node FOLDER --ca AUTHORITY --cluster CLUSTER --node NODE'],
  },
  'credentials-refused': {
    text: 'Mend the file that is named; it is looked at again within seconds',
    here: ['journalctl -u engram-wal -o cat -g credentials'],
  },
  strangers: {
    text: 'Find whose they are; close the port to strangers, give the key to nodes of your own',
    here: ['journalctl -u engram-wal -o cat -g connection-refused'],
  },
  unused: {
    text: 'Open a space here, or name this node in `replicas` of the node that leads',
    here: ['engram-wal config check /etc/engram-wal/wal.json'],
  },
};

/**
 * What to do about a problem of this kind.
 * @param subject the replica or primary that it names, or empty
 * @param space one that it concerns, or empty
 */
export function adviceOf(kind: ProblemKind, subject: string, space: string): Advice {
  const { text, here = [], there = [] } = TEMPLATES[kind];
  const filled = (words: string): string =>
    words.replace(/\bSUBJECT\b|\bSPACE\b/g, (word) =>
      word === 'SPACE' ? wordOr('NAME', space) : wordOr('NODE', subject),
    );
  const on = (node: string) => (command: string) => ({ on: node, command: filled(command) });
  return {
    text: text.replaceAll('SUBJECT', () => subject),
    // The other machine comes first: most of the time it is what has to be mended.
    steps: [...there.map(on(subject)), ...here.map(on(''))],
  };
}

/** What cannot be typed as it stands, or might be taken for an option, the reader fills in. */
function wordOr(placeholder: string, name: string): string {
  return name === '' || name.startsWith('-') || hasHidden(name) ? placeholder : shellWord(name);
}
