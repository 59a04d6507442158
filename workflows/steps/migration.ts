import type { Application, ApplicationMigrations } from '../contracts/application.js';
import type { RowBaseline } from '../contracts/migration.js';
import type { Step } from '../contracts/plan.js';
import { call } from './call.js';
import { placeOf } from './release.js';

/* Steps that change the schema of a database, once for all hosts, with what is applied read from the database itself. */

/** Applies what the release brings. `reversible`: whether every migration that it brings can be taken back. */
export function migrate(
  application: Application,
  migrations: ApplicationMigrations,
  options: { release: string; before: readonly string[]; pending: readonly string[] | undefined; reversible: boolean },
): Step {
  const argument = argumentOf(application, migrations, options);
  const what = options.pending === undefined ? 'the migrations of the release' : options.pending.join(', ');
  return {
    id: 'migrate',
    title: `apply ${what} to ${migrations.database.server.database}${options.reversible ? '' : ', which cannot be taken back'}`,
    why: options.reversible
      ? 'the old release goes on with the new schema until its host is switched; the way back takes the migrations back'
      : 'from here on going back would lose data: a failure asks a person',
    do: call('applyMigrations', argument),
    undo: call('revertMigrations', argument),
  };
}

/** The id of the step that takes migrations back. */
export const TAKE_BACK = 'take-back-migrations';

/** Takes migrations back, newest first, with the release that brought them. `atStake`: what was written since the baseline, for who approves. */
export function takeBack(
  application: Application,
  migrations: ApplicationMigrations,
  options: {
    release: string;
    before: readonly string[];
    migrations: readonly string[];
    baseline: RowBaseline;
    atStake: readonly string[];
  },
): Step {
  const argument = {
    ...argumentOf(application, migrations, { ...options, reversible: true }),
    migrations: options.migrations,
    baseline: options.baseline,
  };
  return {
    id: TAKE_BACK,
    title: `take back ${[...options.migrations].reverse().join(', ')} in ${migrations.database.server.database}`,
    why: `the release that runs again does not know them${options.atStake.length === 0 ? '' : `; what they hold of these is lost: ${options.atStake.join('; ')}`}`,
    do: call('takeBackMigrations', argument),
    undo: call('reapplyMigrations', argument),
  };
}

function argumentOf(
  { deployment }: Application,
  { database, declared, up, down, environment }: ApplicationMigrations,
  options: { release: string; before: readonly string[]; reversible: boolean },
): Record<string, unknown> {
  const { releases, user } = placeOf(deployment);
  return {
    releases,
    user,
    id: options.release,
    database: { target: database.target, server: database.server },
    applied: declared.applied,
    environment,
    ...(declared.applicationName === undefined ? {} : { applicationName: declared.applicationName }),
    up,
    ...(options.reversible && down ? { down } : {}),
    before: options.before,
    ...(declared.atStake.length === 0 ? {} : { atStake: declared.atStake }),
    timeoutSeconds: up.timeoutSeconds + 60,
  };
}
