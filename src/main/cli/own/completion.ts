/** `engram-wal completion`: a script for bash or zsh that completes verbs and options. */
import { type Command, InvalidArgumentError } from 'commander';
import { sayLines } from '../output.js';

const SHELLS = ['bash', 'zsh'] as const;
type Shell = (typeof SHELLS)[number];

/** Adds it behind all others: it tells of what is there. */
export function addCompletion(program: Command): void {
  program
    .command('completion')
    .description('print a script for bash or zsh: source <(engram-wal completion bash)')
    .argument('<shell>', SHELLS.join(' or '), (text): Shell => {
      const shell = SHELLS.find((known) => known === text);
      if (shell) return shell;
      throw new InvalidArgumentError(`Expected ${SHELLS.join(' or ')}. Example: bash`);
    })
    .exitOverride()
    .action((shell: Shell) => sayLines(scriptOf(program, shell)));
}

/** Each verb, with the words that may follow it. */
function wordsOf(command: Command, before = ''): [verb: string, words: string[]][] {
  const verb = before === '' ? '' : before;
  const options = command.options.flatMap(({ long, short }) => [long, short]);
  const verbs = command.commands.map((sub) => sub.name());
  const words = [...verbs, ...options, '--help'].filter((word) => word !== undefined);
  const deeper = command.commands.flatMap((sub) => wordsOf(sub, `${before} ${sub.name()}`.trim()));
  return [[verb, words], ...deeper];
}

function scriptOf(program: Command, shell: Shell): string {
  const name = program.name();
  const cases = wordsOf(program).map(
    ([verb, words]) => `    "${verb}") words="${words.join(' ')}" ;;`,
  );
  const bash = [
    '_engram_wal() {',
    `  local word verb="" words="" current="\${COMP_WORDS[COMP_CWORD]}"`,
    `  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do`,
    '    case "$word" in -*|*/*) break ;; esac',
    `    verb="\${verb:+$verb }$word"`,
    '  done',
    '  # What follows a verb may be a directory: the longest verb counts.',
    '  while :; do',
    '    case "$verb" in',
    ...cases.map((line) => `  ${line}`),
    '    esac',
    '    [ -n "$words" ] || [ -z "$verb" ] && break',
    `    case "$verb" in *" "*) verb="\${verb% *}" ;; *) verb="" ;; esac`,
    '  done',
    '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
    `  case "$current" in -*) ;; *) COMPREPLY+=($(compgen -f -- "$current")) ;; esac`,
    '}',
    `complete -o filenames -F _engram_wal ${name}`,
  ];
  // zsh takes bash's by its own means.
  const zsh = [
    'autoload -U +X compinit && compinit -u',
    'autoload -U +X bashcompinit && bashcompinit',
  ];
  return (shell === 'zsh' ? [...zsh, ...bash] : bash).join('\n');
}
