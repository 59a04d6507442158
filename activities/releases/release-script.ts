import { readFileSync } from 'node:fs';
import type { CommandEnvironment, ReleaseCommand } from '../../workflows/contracts/deployment.js';
import { secretLines } from '../object-store/job-text.js';
import type { Secrets } from '../secrets/resolve.js';
import { serviceFunctions } from '../services/service-script.js';

const read = (name: string): string => readFileSync(new URL(name, import.meta.url), 'utf8');
const frame = read('./release-frame.sh');
const script = (name: string): string => `${frame}\n${read(name)}`;

export const scripts = {
  observe: `${serviceFunctions}\n${script('./observe-release.sh')}`,
  resolve: script('./resolve-ref.sh'),
  fetch: script('./fetch-release.sh'),
  build: script('./build-release.sh'),
  run: script('./run-in-release.sh'),
  discard: script('./discard-release.sh'),
  switch: script('./switch-release.sh'),
  prune: script('./prune-releases.sh'),
};

/** Pairs of path and target, as the scripts take them. */
export const sharedArguments = (shared: readonly { path: string; target: string }[]): string[] =>
  shared.map(({ path, target }) => `shared=${path}\x1f${target}`);

/** What is no secret of an environment, as the scripts take it. */
export const environmentArguments = ({ files, values }: CommandEnvironment): string[] => [
  ...files.map((file) => `environment-file=${file}`),
  ...Object.entries(values).map(([name, value]) => `environment-value=${name}=${value}`),
];

/** The secret variables of an environment, for standard input. Throws `SecretUnavailable`. */
export async function environmentSecrets(secrets: Secrets, environment: CommandEnvironment): Promise<Buffer> {
  const values = await Promise.all(
    Object.entries(environment.secrets).map(
      async ([name, reference]) => [name, (await secrets.resolve(reference)).reveal()] as const,
    ),
  );
  return secretLines(Object.fromEntries(values));
}

/** One command of the application: SECONDS DIRECTORY PROGRAM ARGUMENT... */
export const commandArguments = ({ run, in: directory, timeoutSeconds }: ReleaseCommand): string[] => [
  String(timeoutSeconds),
  directory ?? '',
  ...run,
];

/** The same with the number of words before the program, for several in a row. */
export const countedCommand = ({ run, in: directory, timeoutSeconds }: ReleaseCommand): string[] => [
  String(timeoutSeconds),
  directory ?? '',
  String(run.length),
  ...run,
];
