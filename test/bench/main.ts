// `npm run bench -- NAME`: benchmarks. README.md tells how to read them.
import { Command, InvalidArgumentError } from 'commander';
import { say } from '../../infra/packaging/toolbox-cache.js';
import { ToolboxError } from '../../infra/packaging/toolbox.js';
import { DevServerError } from '../../infra/temporal/dev-server.js';
import { NoTemporalServer } from '../../infra/temporal/server-executable.js';
import { benchmarkBackup, Interrupted } from './backup.js';
import { benchmarkSteps } from './steps.js';

const whole = (least: number, most: number) => (text: string) => {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < least || value > most)
    throw new InvalidArgumentError(`It is a whole number from ${least} to ${most}.`);
  return value;
};

const program = new Command('bench').description('Measures guardia on this machine.').showHelpAfterError();

program
  .command('backup')
  .description(
    "the backup of one database by guardia, by the manual's own script and by restic, against what pg_dump alone takes",
  )
  .option('--megabytes <number>', 'size of the database, 200 to 10240', whole(200, 10240), 2048)
  .option('--runs <number>', 'rounds: every one of the four runs once in each', whole(1, 50), 5)
  .option('--kills <number>', 'further backups whose worker is killed at half way', whole(0, 20), 1)
  .option('--rss-only', 'only guardia, and only the memory of its worker; one round unless --runs says more')
  .option('--output <file>', 'write the tables there; the judged size goes to test/bench/backup.md by itself')
  .option('--json', 'print everything that was measured as JSON')
  .action(
    async (
      options: {
        megabytes: number;
        runs: number;
        kills: number;
        rssOnly?: true;
        output?: string;
        json?: true;
      },
      command: Command,
    ) => {
      const rssOnly = options.rssOnly === true;
      const passed = await benchmarkBackup({
        megabytes: options.megabytes,
        rounds: rssOnly && command.getOptionValueSource('runs') === 'default' ? 1 : options.runs,
        kills: rssOnly ? 0 : options.kills,
        rssOnly,
        output: options.output,
        json: options.json === true,
      });
      if (!passed) process.exitCode = 1;
    },
  );

program
  .command('steps')
  .description('what a step costs: steps that do nothing through the interpreter of plans, against bare activities')
  .option('--steps <number>', 'steps of each run, 10 to 1000', whole(10, 1000), 100)
  .option('--runs <number>', 'rounds: both once in each', whole(1, 50), 9)
  .action(async ({ steps, runs }: { steps: number; runs: number }) => {
    if (!(await benchmarkSteps({ steps, rounds: runs }))) process.exitCode = 1;
  });

try {
  if (process.argv.length <= 2) program.outputHelp();
  else await program.parseAsync();
} catch (error) {
  if (!(error instanceof Error)) throw error;
  const expected = [ToolboxError, DevServerError, NoTemporalServer].some((kind) => error instanceof kind);
  say(`bench: ${expected ? error.message : (error.stack ?? error.message)}`);
  // What was interrupted may still wait for something that is gone.
  process.exit(error instanceof Interrupted ? error.exitCode : 1);
}
