/** The verbs with which a person tries a running node: `append`, `tail`, `spaces`, `space`. */
import { type Command, InvalidArgumentError } from 'commander';
import { addAppend } from './append.js';
import { addSpace } from './space.js';
import { addSpaces } from './spaces.js';
import { addTail } from './tail.js';

function whole(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new InvalidArgumentError('Expected a whole number from 0. Example: 1');
}

/** Adds them to the program. */
export function addSmokeCommands(program: Command): void {
  const onNode = (name: string, what: string): Command =>
    program
      .command(name)
      .description(what)
      .argument('<dir>', 'the dataDir of a node that runs on this machine')
      .option('--json', 'JSON on stdout, nothing else', false)
      .exitOverride();
  addAppend(onNode('append', 'append entries to a space that this node leads'), whole);
  addTail(onNode('tail', 'show the last entries of a space, and those that come'), whole);
  addSpaces(onNode('spaces', 'list the spaces of this node, and who leads them'));
  addSpace(onNode('space', 'show what this node knows of one space'));
}
