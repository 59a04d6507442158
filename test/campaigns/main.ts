// `npm run campaign -- NAME`: faults in larger numbers than a test run has time for. Without a name: what there is.
import { randomInt } from 'node:crypto';
import { Command, InvalidArgumentError } from 'commander';
import { say } from '../../infra/packaging/toolbox-cache.js';
import { ToolboxError } from '../../infra/packaging/toolbox.js';
import { deploys } from './deploys.js';
import { locks } from './locks.js';
import { nodeVersions } from './node-versions.js';
import { everyStepFails } from './steps.js';
import { temporalOnPostgresql } from './temporal-on-postgresql.js';
import { workerKilled } from './worker-killed.js';

function whole(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('It is a whole number.');
  return Number(text);
}

const names = (text: string): string[] => text.split(',');

const program = new Command('campaign')
  .description('Faults in larger numbers than a test run has time for, each with a table of what came of it.')
  .showHelpAfterError();

program
  .command('worker-killed')
  .description('kill -9 of the worker at random moments of a backup; writes test/campaigns/worker-killed.md')
  .option('--kills <number>', 'backups, each with one kill', whole, 10)
  .option('--seed <number>', 'the same moments again (default: drawn, and printed)', whole)
  .action(async (options: { kills: number; seed?: number }) => {
    const good = await workerKilled({ kills: options.kills, seed: options.seed ?? randomInt(1_000_000), say });
    process.exitCode = good ? 0 : 1;
  });

program
  .command('locks')
  .description('workers and runs killed at random while runs want one lock; writes test/campaigns/locks.md')
  .option('--kills <number>', 'in all', whole, 1000)
  .option('--seed <number>', 'the same moments again (default: drawn, and printed)', whole)
  .action(async (options: { kills: number; seed?: number }) => {
    process.exitCode = (await locks({ kills: options.kills, seed: options.seed ?? randomInt(1_000_000), say })) ? 0 : 1;
  });

program
  .command('steps')
  .description('every step of every runbook fails, loses its worker and its host once; writes test/campaigns/steps.md')
  .option('--only <scenarios>', 'only these, by name or by runbook, separated by commas', names)
  .option('--sample <number>', 'at most so many cells of each scenario', whole)
  .option('--labs <number>', 'labs that share the cells', whole, 2)
  .option('--keep-from <commits>', 'good cells of these commits count, too; separated by commas', names)
  .action(async (options: { only?: string[]; sample?: number; labs: number; keepFrom?: string[] }) => {
    process.exitCode = (await everyStepFails({ ...options, say })) ? 0 : 1;
  });

program
  .command('deploys')
  .description('bare hosts to v1, v2 and through five broken releases, with requests; writes test/campaigns/deploys.md')
  .option('--only <text>', 'only hosts whose description holds this, such as bare; the rows of others stay')
  .action(async (options: { only?: string }) => {
    process.exitCode = (await deploys({ ...options, say })) ? 0 : 1;
  });

program
  .command('temporal-on-postgresql')
  .description('backups on Temporal as in production; writes test/campaigns/temporal-on-postgresql.md')
  .action(async () => {
    process.exitCode = (await temporalOnPostgresql({ say })) ? 0 : 1;
  });

program
  .command('node-versions')
  .description('the fast part of the suite on other versions of Node; writes test/campaigns/node-versions.md')
  .action(async () => {
    process.exitCode = (await nodeVersions({ say })) ? 0 : 1;
  });

try {
  if (process.argv.length <= 2) program.outputHelp();
  else await program.parseAsync();
} catch (error) {
  if (!(error instanceof Error)) throw error;
  say(`campaign: ${error instanceof ToolboxError ? error.message : (error.stack ?? error.message)}`);
  process.exitCode = 1;
}
