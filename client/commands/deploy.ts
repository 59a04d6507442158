import { z } from 'zod';
import { command } from '../command.js';
import { runOptions, startAndFollow, type OwnOptions } from './run.js';

const started = runOptions.omit({ runbook: true }).extend({ deployment: z.string().optional() });

/** `guardia deploy SYSTEM [REF]`: the runbook `deploy`. */
export const deploy = command({
  options: started.extend({ ref: z.string().optional(), force: z.boolean().optional() }),
  execute: ({ ref, force, deployment, ...given }, terminal) =>
    startAndFollow({ ...given, runbook: 'deploy' }, terminal, {
      fields: {
        ref: { said: 'REF', value: ref },
        force: { said: '--force', value: force },
        deployment: { said: '--deployment', value: deployment },
      },
      line: (system) => [
        ...['guardia', 'deploy', system],
        ...(ref === undefined ? [] : [ref]),
        ...(force === true ? ['--force'] : []),
        ...option('--deployment', deployment),
      ],
    } satisfies OwnOptions),
});

/** `guardia rollback SYSTEM`: the runbook `rollback`. */
export const rollback = command({
  options: started.extend({ migrations: z.string().optional() }),
  execute: ({ migrations, deployment, ...given }, terminal) =>
    startAndFollow({ ...given, runbook: 'rollback' }, terminal, {
      fields: {
        migrations: { said: '--migrations', value: migrations },
        deployment: { said: '--deployment', value: deployment },
      },
      line: (system) => [
        ...['guardia', 'rollback', system],
        ...option('--migrations', migrations),
        ...option('--deployment', deployment),
      ],
    } satisfies OwnOptions),
});

const option = (name: string, value: string | undefined): string[] => (value === undefined ? [] : [name, value]);
