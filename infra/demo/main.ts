// `npm run demo [-- --once] [--megabytes N] [--local] [--database URL]`: one backup of a real database, from nothing to its proof.
import { Command, InvalidArgumentError } from 'commander';
import { ToolboxError, say } from '../packaging/toolbox-cache.js';
import { onLab } from './lab-place.js';
import { onThisMachine } from './local-place.js';
import { canRunLab } from './lab-possible.js';
import type { DemoOptions } from './place.js';
import { showBackup } from './show-backup.js';

const size = (text: string): number => {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 10 || number > 10240)
    throw new InvalidArgumentError('a whole number of megabytes from 10 to 10240');
  return number;
};

const options = new Command('npm run demo --')
  .description(
    'Backs up a real PostgreSQL database of ProofPass into a real S3 bucket, reads the backup back, and shows it.',
  )
  .option('--once', 'end after the backup instead of waiting for Ctrl-C', false)
  .option('--megabytes <number>', 'size of the database', size, 300)
  .option('--local', 'on this machine instead of a host of the lab', false)
  .option(
    '--database <url>',
    'with --local: the database to back up, postgresql://USER:PASSWORD@HOST:PORT/NAME (default: one that is found here)',
  )
  .parse()
  .opts<DemoOptions>();

async function main(): Promise<number> {
  const why = canRunLab();
  const local = options.local || options.database !== undefined || why !== undefined;
  if (why !== undefined && !options.local) say(`no lab here (${why}): the demo runs on this machine itself`);
  const interrupted = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve());
  });
  const place = local ? await onThisMachine(options) : await onLab(options.megabytes);
  try {
    return await showBackup(place, { stay: options.once ? undefined : interrupted, interrupted });
  } finally {
    say('taking the demo down ...');
    await place.down();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof ToolboxError)) throw error;
  say(`demo: ${error.message}`);
  process.exitCode = 1;
}
