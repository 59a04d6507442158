import { readFileSync } from 'node:fs';
import { type Argument, Command as Commander, CommanderError, InvalidArgumentError, Option } from 'commander';
import type { Command } from './command.js';
import { createTerminal, type Terminal } from './terminal.js';

/** A command in words. What it does is loaded only when it is called: help and mistakes in typing answer at once. */
export interface CommandWords {
  /** One word, or two for a command below another one. */
  name: string;
  group: string;
  summary: string;
  /** What the summary leaves out; paragraphs. */
  about?: string;
  arguments?: readonly [syntax: string, description: string][];
  options?: readonly [flags: string, description: string][];
  examples: readonly [line: string, does: string][];
  /** Passes everything behind the name on as it is. */
  passThrough?: boolean;
  load: () => Promise<Command>;
}

const RUNS = 'Start and follow runs:';
const LOOK = 'Look at systems and backups:';
const SETUP = 'Set up and repair:';

/** What every command that starts a run takes. */
const STARTING: readonly [flags: string, description: string][] = [
  ['--plan', 'make the plan and show it; start nothing (dry run)'],
  ['--input <file>', 'further fields of the input, JSON or YAML; - for standard input'],
  ['--set <field=value...>', 'one field of the input; wins over --input'],
  ['--reason <text>', 'why; kept in the record of the run'],
  ['--requester <name>', 'who asks (default: GUARDIA_APPROVER or the login, at this host)'],
  ['--id <suffix>', 'end of the workflow id RUNBOOK/SYSTEM/SUFFIX (default: the time)'],
  ['--follow', 'follow the run to its end (the default)'],
  ['--no-follow', 'return as soon as it is started'],
];

/** Every command, in the order of the help. */
export const commands: readonly CommandWords[] = [
  {
    name: 'run',
    group: RUNS,
    summary: 'start a runbook on a system and follow it to its end',
    about: `Without RUNBOOK and SYSTEM it asks. The input is checked before anything is started.
The run belongs to Temporal and not to this command: Ctrl-C leaves it running, and guardia watch comes back to it.
With --id, starting twice is starting once: a second start with the same input follows the first run.`,
    arguments: [
      ['[runbook]', 'what to do: see guardia runbooks'],
      ['[system]', 'what to do it to: see guardia systems'],
    ],
    options: STARTING,
    examples: [
      ['guardia run backup proofpass --plan', 'what a backup would do, step by step'],
      ['guardia run backup proofpass --reason "before the update"', 'do it, and watch'],
      ['guardia run backup proofpass --id nightly-2026-01-31 --no-follow', 'from a script that may be started twice'],
      ['guardia run backup proofpass --set acceptAnomaly=true', 'with a field of its input'],
    ],
    load: async () => (await import('./commands/run.js')).run,
  },
  {
    name: 'deploy',
    group: RUNS,
    summary: 'bring a release to the hosts of a system',
    about: 'The same as guardia run deploy, with REF where it is typed most easily.',
    arguments: [
      ['<system>', 'what to deploy: see guardia systems'],
      ['[ref]', 'branch, tag or commit, or the SHA-256 of an archive (default: what the inventory says)'],
    ],
    options: [
      ['--force', 'also where this commit is current and healthy'],
      ['--deployment <name>', 'which of the deployments, where the system has several'],
      ...STARTING,
    ],
    examples: [
      ['guardia deploy proofpass v2 --plan', 'what it would do, host by host, with downtime and undo'],
      ['guardia deploy proofpass v2 --reason "ticket 17"', 'do it, and watch'],
      [
        'guardia deploy proofpass v2 --set onFailure=hold',
        'a failed step waits for a person, before anything is undone',
      ],
    ],
    load: async () => (await import('./commands/deploy.js')).deploy,
  },
  {
    name: 'rollback',
    group: RUNS,
    summary: 'go back to the release from before the last deploy',
    about: `From the record of the deploy, hours later as well as at once. Migrations are taken back where that loses nothing; where it would, the
command is refused and names the rows at stake. Data is never restored by it.`,
    arguments: [['<system>', 'what to go back on: see guardia systems']],
    options: [
      ['--migrations <down|keep>', '`keep` brings the release back and leaves the schema as it is (default: down)'],
      ['--deployment <name>', 'which of the deployments, where the system has several'],
      ...STARTING,
    ],
    examples: [['guardia rollback proofpass --plan', 'what going back means, step by step']],
    load: async () => (await import('./commands/deploy.js')).rollback,
  },
  {
    name: 'watch',
    group: RUNS,
    summary: 'follow a run live, or show how it ended',
    about: `ID is a workflow id, the beginning of one, "latest", or a runbook followed by a system for the newest run of these.
Ctrl-C leaves the run running (exit code 10). A run that has ended is shown as long as Temporal or the object store knows it.
--json prints one line for each change; the last one has "end" and "exitCode".`,
    arguments: [
      ['<id>', 'workflow id, its beginning, "latest", or a runbook'],
      ['[system]', 'with a runbook: the newest run on this system'],
    ],
    options: [['--once', 'show it as it is now and return']],
    examples: [
      ['guardia watch latest', 'the run that was started last'],
      ['guardia watch backup proofpass', 'the last backup of proofpass'],
      ['guardia watch backup/proofpass/nightly-2026-01-31', 'one run'],
    ],
    load: async () => (await import('./commands/watch.js')).watch,
  },
  {
    name: 'cancel',
    group: RUNS,
    summary: 'stop a run, undo what it did, and follow that to its end',
    about: 'The run keeps its lock until its last undo. Exit code 0: it is cancelled, or had ended before.',
    arguments: [
      ['<id>', 'as for guardia watch'],
      ['[system]', 'with a runbook: the newest run on this system'],
    ],
    options: [
      ['--reason <text>', 'why; kept in the history'],
      ['--no-follow', 'return as soon as the run has been asked'],
    ],
    examples: [['guardia cancel latest --reason "wrong system"', 'cancel the run that was started last']],
    load: async () => (await import('./commands/cancel.js')).cancel,
  },
  {
    name: 'plan',
    group: RUNS,
    summary: 'the plan of a run: what it does or waits to be allowed to do',
    about: 'Before a run is started: guardia run RUNBOOK SYSTEM --plan. The digest is what people approve.',
    arguments: [
      ['<id>', 'as for guardia watch'],
      ['[system]', 'with a runbook: the newest run on this system'],
    ],
    examples: [['guardia plan deploy proofpass', 'what the newest deploy would do']],
    load: async () => (await import('./commands/plan.js')).plan,
  },
  ...(['approve', 'reject'] as const).map((decision): CommandWords => ({
    name: decision,
    group: RUNS,
    summary:
      decision === 'approve' ? 'agree to the plan of a run that waits for people' : 'say no to it: one no is a veto',
    about: `Shows what is decided about and the plan, and asks; without a terminal everything is said by options. The decision is signed with your SSH key over this
run, this gate, this plan and this answer, and counts for nothing else. Who may decide and with which key is in the inventory (approvers): where it has no key of
yours and the gate wants none, the decision is not signed, and the command says so.`,
    arguments: [
      ['<id>', 'as for guardia watch'],
      ['[system]', 'with a runbook: the newest run on this system'],
    ],
    options: [
      ['--reason <text>', 'why; kept in the record'],
      ['--as <name>', 'your name in the inventory (default: GUARDIA_APPROVER, or your login name)'],
      [
        '--key <file>',
        'sign, with this SSH key (default: GUARDIA_SIGNING_KEY, or your usual key); a public key for one in your agent',
      ],
      ['--minutes <count>', 'how long the signed decision counts (default: 60)'],
      ['--unsigned', 'without a signature, where the gate counts one'],
      ['--typed <name>', 'the name of the system, where the gate wants it typed'],
      ['--digest <digest>', 'refuse unless the plan is still this one: the first 12 to 64 digits of its digest'],
      ['--gate <name>', 'which gate, where several are open'],
    ],
    examples: [[`guardia ${decision} deploy proofpass --reason "read it, fine"`, 'the newest deploy']],
    load: async () => (await import('./commands/decide.js'))[decision],
  })),
  {
    name: 'recover',
    group: RUNS,
    summary: 'say to a run that holds what to do: retry, skip, rollback, done or accept',
    about: `A run holds where an undo failed, where something failed behind the point of no return, and, when it was started with onFailure=hold, at
every step that failed for good. It keeps its locks until somebody decides; guardia watch shows the choices.`,
    arguments: [
      ['<id>', 'workflow id, its beginning, or "latest"'],
      [
        '[decision]',
        'retry: do it again; skip: go on without it; rollback: undo; done: undone by hand; accept: leave it and end',
      ],
    ],
    options: [
      ['--reason <text>', 'why; kept in the record'],
      ['--hold <name>', 'where it holds: without it the one place that there is'],
      ['--by <name>', 'who says so (default: GUARDIA_APPROVER or the login, at this host)'],
      ['--no-follow', 'return as soon as it is said'],
    ],
    examples: [['guardia recover latest retry --reason "disk was full, is not any more"', 'do the failed step again']],
    load: async () => (await import('./commands/recover.js')).recoverCommand,
  },
  {
    name: 'locks',
    group: RUNS,
    summary: 'what is held by which run, what that run is doing, and who waits for it',
    arguments: [['[system]', 'only this system']],
    examples: [['guardia locks proofpass', 'who holds it']],
    load: async () => (await import('./commands/locks.js')).locks,
  },
  {
    name: 'status',
    group: RUNS,
    summary: 'open runs, last runs, locks, and whether a worker is there',
    arguments: [['[system]', 'only this system']],
    examples: [['guardia status', 'everything at a glance']],
    load: async () => (await import('./commands/status.js')).status,
  },
  {
    name: 'health',
    group: LOOK,
    summary: 'how a system is: every probe of its health check, by host',
    about: `Starts the runbook health-check and shows what it found; it changes nothing and takes no lock.
With --direct it looks from this machine, without Temporal and without a worker: its secrets and its network are what counts then.
Exit code 1: a probe is critical, or a critical one could not be looked at. Warnings do not count.`,
    arguments: [['<system>', 'its name']],
    options: [
      ['--direct', 'look from this machine, without Temporal and a worker'],
      ['--bad', 'show only what is not ok'],
    ],
    examples: [
      ['guardia health proofpass', 'everything, host by host'],
      ['guardia health proofpass --json | jq -r \'.probes[] | select(.state != "ok") | .message\'', 'what is wrong'],
    ],
    load: async () => (await import('./commands/health.js')).health,
  },
  {
    name: 'backups',
    group: LOOK,
    summary: 'recovery points of a system: age, size, and how far each has been proved',
    about: `Reads the bucket with the worker's key (GUARDIA_SECRETS); works without Temporal and without a worker.
complete: everything is in the bucket. verified: read back to the last byte. restored: a restore from it was seen to work.
damaged: does not read back. Warns when the newest verified one that holds all databases of the system is older than a day.`,
    arguments: [['<system>', 'its name']],
    options: [['--newest <count>', 'how many (default: 20)']],
    examples: [
      ['guardia backups proofpass', 'the last twenty'],
      ["guardia backups proofpass --json | jq -r '.points[0].state'", 'how far the newest is proved'],
    ],
    load: async () => (await import('./commands/backups.js')).backups,
  },
  {
    name: 'runbooks',
    group: LOOK,
    summary: 'what can be run, with its input and the form in the Web UI',
    arguments: [['[runbook]', 'only this one, with every field of its input']],
    examples: [['guardia runbooks backup', 'fields, an example to paste, and the link to the Web UI']],
    load: async () => (await import('./commands/runbooks.js')).listRunbooks,
  },
  {
    name: 'systems',
    group: LOOK,
    summary: 'the systems of the inventory',
    examples: [['guardia systems', 'list them']],
    load: async () => (await import('./commands/systems.js')).listSystemsCommand,
  },
  {
    name: 'systems check',
    group: LOOK,
    summary: 'every mistake in the inventory, by file and line',
    about: 'Values that are not filled in yet are listed apart: they are no mistake until a run needs them.',
    arguments: [['[system]', 'only this system']],
    examples: [
      ['guardia systems check', 'the whole inventory'],
      ['guardia systems check proofpass', 'one system'],
    ],
    load: async () => (await import('./commands/systems.js')).checkSystemsCommand,
  },
  {
    name: 'systems show',
    group: LOOK,
    summary: 'one system with its overlay and all defaults',
    arguments: [['<system>', 'its name']],
    examples: [['guardia systems show proofpass --json', 'as a run sees it']],
    load: async () => (await import('./commands/systems.js')).showSystemCommand,
  },
  {
    name: 'doctor',
    group: SETUP,
    summary: 'what is missing on this machine, in Temporal and on each host, and what helps',
    about: `Looks at each host with one SSH call, and tries its access key with an upload that is given up: nothing is left behind.
Run it where the worker runs: its secrets and tools are what counts. Without SYSTEM, systems that are not filled in yet are passed over. Exit code 1: something required is missing.`,
    arguments: [
      ['[system]', 'only this system, with every value that a backup lacks; all others: guardia systems check SYSTEM'],
    ],
    options: [['--try-notices', 'send every notification target a notice that says it is a trial']],
    examples: [
      ['guardia doctor', 'before the first run'],
      ['guardia doctor proofpass --try-notices', 'does an alarm arrive, by mail, in the channel, on the pager?'],
      ['guardia doctor proofpass --json', 'for a monitoring script'],
    ],
    load: async () => (await import('./commands/doctor.js')).doctor,
  },
  {
    name: 'watcher',
    group: SETUP,
    summary: 'watch over the runs, the workers and the schedules, and tell people what no run can tell by itself',
    about: `Runs until Ctrl-C; in production it is guardia-watcher.service. Looks for runs that were terminated, timed out, could not start, are parked or overdue, for scheduled
runs that did not start, for task queues without a worker, and whether Temporal answers. Each is told once to the notifications of its system, and once when it is over.
After each good round it pings the system's heartbeat, with /fail behind it when it could not look or could not tell.
With --once exit code 1: something is wrong.`,
    arguments: [['[system]', 'only this system']],
    options: [
      ['--once', 'one round: print what is wrong and return'],
      ['--no-tell', 'look only: nobody is told, no heartbeat, nothing is kept'],
      ['--interval <seconds>', 'from one round to the next (default: 60)'],
    ],
    examples: [
      ['guardia watcher --once --no-tell', 'what is wrong now'],
      ['guardia watcher --once --json', 'for a monitoring script'],
    ],
    load: async () => (await import('./commands/watcher.js')).watcher,
  },
  {
    name: 'dev',
    group: SETUP,
    summary: 'a Temporal development server and a worker on this machine, until Ctrl-C',
    about: 'Takes --port, --ui-port and --no-worker; guardia dev --help describes them.',
    passThrough: true,
    examples: [['guardia dev', 'then, in another terminal: guardia run backup proofpass']],
    load: async () => (await import('./commands/dev.js')).dev,
  },
];

const HELP_END = `
Two to start with:
  guardia dev                            Temporal and a worker on this machine
  guardia run backup proofpass --plan    what a backup would do, step by step

Further help:
  guardia help COMMAND       one command, with examples
  guardia help exit-codes    what scripts can rely on
  guardia help environment   the variables that guardia reads

Every command but dev takes --json: results on stdout as JSON, messages on stderr.`;

/** Runs the command line. Returns the exit code; never throws. */
export async function main(argv: readonly string[], makeTerminal = createTerminal): Promise<number> {
  const json = argv.includes('--json');
  const terminal = makeTerminal({ json });
  // A reader that went away (`| head`) is no error of ours.
  terminal.streams.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  let exitCode = 0;
  const program = buildProgram(
    async (words, raw) => {
      exitCode = await call(words.load, raw, terminal);
    },
    (text) => void terminal.streams.stdout.write(text),
    Math.min(terminal.columns, 120),
  );
  try {
    if (argv.length === 0) {
      program.outputHelp();
      return 0;
    }
    await program.parseAsync([...argv], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0; // help, version
    const { showError } = await import('./command.js');
    if (!(error instanceof CommanderError)) return showError(error, terminal);
    const { CommandFailure } = await import('./command-failure.js');
    const message = error.message.replace(/^error: /, '').replace(/\n\((.*)\)$/s, '. $1');
    return showError(new CommandFailure('usage', { message, remedy: remedyFor(program, argv) }), terminal);
  }
}

async function call(load: () => Promise<Command>, raw: Record<string, unknown>, terminal: Terminal): Promise<number> {
  const { runCommand } = await import('./command.js');
  return runCommand(load, raw, terminal);
}

/** The help of the command that a wrong command line begins with. */
function remedyFor(program: Commander, argv: readonly string[]): string {
  const [first, second] = argv.filter((argument) => !argument.startsWith('-'));
  const command = program.commands.find((candidate) => candidate.name() === first);
  if (command === undefined) return 'guardia help';
  const below = command.commands.find((candidate) => candidate.name() === second);
  if (below !== undefined) return `guardia help ${command.name()} ${below.name()}`;
  const others = command.commands.map((candidate) => `${command.name()} ${candidate.name()}`);
  return `guardia help ${command.name()}${others.length === 0 ? '' : `. Commands below it: ${others.join(', ')}`}`;
}

function shown(argument: Argument): string {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return argument.required ? `<${name}>` : `[${name}]`;
}

type Call = (words: CommandWords, raw: Record<string, unknown>) => Promise<void>;

/** The command line as commander knows it. */
export function buildProgram(act: Call, write: (text: string) => void = () => undefined, columns = 100): Commander {
  const program = new Commander('guardia')
    // Errors are shown by showError, in one form for all of them.
    .configureOutput({
      writeOut: write,
      writeErr: () => undefined,
      outputError: () => undefined,
      getOutHelpWidth: () => columns,
    })
    .configureHelp({
      subcommandTerm: (command) =>
        [
          ...(command.parent?.parent ? [command.parent.name()] : []),
          command.name(),
          ...command.registeredArguments.map(shown),
        ].join(' '),
      // Commands below a command stand beside it.
      visibleCommands: (command) => command.commands.flatMap((below) => [below, ...below.commands]),
    })
    .description(
      'Durable runbooks for small production systems: back them up, deploy to them and look after them, with undo, on Temporal.',
    )
    .usage('COMMAND [options]')
    .version(version(), '--version', 'print the version')
    .helpOption('-h, --help', 'this help')
    .helpCommand(false)
    .exitOverride()
    .enablePositionalOptions()
    .showSuggestionAfterError(true)
    .addHelpText('after', HELP_END);
  for (const words of commands) {
    const [first = '', second] = words.name.split(' ');
    const parent = second === undefined ? program : program.commands.find((command) => command.name() === first);
    const command = (parent ?? program).command(second ?? first);
    command
      .summary(words.summary)
      .description([sentence(words.summary), ...(words.about ? ['', words.about] : [])].join('\n'));
    command.helpGroup(words.group);
    if (words.passThrough === true) {
      command
        .helpOption(false)
        .allowUnknownOption()
        .allowExcessArguments()
        .passThroughOptions()
        .argument('[arguments...]');
    } else {
      for (const [syntax, description] of words.arguments ?? []) command.argument(syntax, description);
      for (const [flags, description] of words.options ?? []) command.addOption(option(flags, description));
      command.option('--json', 'print JSON').helpOption('-h, --help', 'this help').helpCommand(false);
    }
    const width = Math.max(...words.examples.map(([line]) => line.length));
    command.addHelpText(
      'after',
      `\nExamples:\n${words.examples.map(([line, does]) => `  ${line.padEnd(width)}  ${does}`).join('\n')}`,
    );
    command.action(async () => act(words, argumentsOf(command)));
  }
  const help = program
    .command('help [topic...]')
    .summary('this help, or that of a command; exit-codes; environment')
    .helpGroup(SETUP)
    .option('--json', 'print JSON')
    .action(async () => {
      const { topic = [] } = argumentsOf(help) as { topic?: string[] };
      const command = topic.reduce<Commander | undefined>(
        (at, name) => at?.commands.find((candidate) => candidate.name() === name),
        program,
      );
      if (command !== undefined && help.opts<{ json?: boolean }>().json === true)
        write(`${JSON.stringify(helpDocument(topic.join(' ')), null, 2)}\n`);
      else if (command !== undefined) command.outputHelp();
      else await act(helpTopics, { topic: topic.join(' ') });
    });
  return program;
}

/** `guardia help --json` and `guardia help COMMAND --json`. */
function helpDocument(topic: string): object {
  const documents = commands.map(({ name, summary, about, arguments: words = [], options = [], examples }) => ({
    name,
    summary,
    ...(about === undefined ? {} : { about }),
    arguments: words.map(([syntax, means]) => ({ syntax, means })),
    options: options.map(([flags, means]) => ({ flags, means })),
    examples: examples.map(([line, does]) => ({ line, does })),
  }));
  return topic === '' ? { commands: documents } : (documents.find(({ name }) => name === topic) ?? {});
}

const helpTopics: CommandWords = {
  name: 'help',
  group: SETUP,
  summary: '',
  examples: [],
  load: async () => (await import('./commands/help.js')).help,
};

/** A variadic option is given again and again, one value each time: `--set a=1 --set b=2`. */
function option(flags: string, description: string): Option {
  const made = new Option(flags.replace('...>', '>'), description);
  if (flags.includes('...>'))
    made.argParser((value: string, before: string[] | undefined) => [...(before ?? []), value]);
  else if (made.required)
    made.argParser((value: string, before: string | undefined) => {
      if (before !== undefined) throw new InvalidArgumentError('It was given twice.');
      return value;
    });
  return made;
}

function argumentsOf(command: Commander): Record<string, unknown> {
  const named = command.registeredArguments.map((argument, i) => [
    argument.name(),
    command.processedArgs[i] as unknown,
  ]);
  const given = Object.fromEntries(named) as Record<string, unknown>;
  return { ...command.opts(), ...given };
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function version(): string {
  for (const place of ['../package.json', '../../package.json']) {
    try {
      return (JSON.parse(readFileSync(new URL(place, import.meta.url), 'utf8')) as { version: string }).version;
    } catch {
      // Compiled code lies one level deeper.
    }
  }
  return 'unknown';
}
