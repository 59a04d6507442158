import { cancellationSignal } from '@temporalio/activity';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { isFailure } from '../../workflows/contracts/errors.js';
import { AccountName } from '../../workflows/contracts/files.js';
import { AbsolutePath } from '../../workflows/contracts/names.js';
import type { SeenAccount } from '../../workflows/contracts/provision-observation.js';
import { targetOf } from '../activity-context.js';
import { lookAtPaths } from '../files/paths.js';
import type { Hosts } from '../hosts/hosts.js';
import { recall, remember, thirdState } from '../journal.js';

const script = readFileSync(new URL('./accounts.sh', import.meta.url), 'utf8');

const Account = z.strictObject({ name: AccountName });
const MakeAccount = Account.extend({ home: AbsolutePath, shell: AbsolutePath, groups: z.array(AccountName) });

interface AccountEntry {
  before: SeenAccount | null;
  homeMade: boolean;
  groups: string[];
}

/** Users by login name; without those that there are not. Reads only. */
export async function observeAccounts(
  hosts: Hosts,
  context: CallContext,
  names: readonly string[],
): Promise<Record<string, SeenAccount>> {
  const { stdout } = await hosts.run(
    targetOf(context),
    { argv: ['/bin/bash', '-c', script, 'accounts', 'look', ...names] },
    { signal: cancellationSignal() },
  );
  return Object.fromEntries(
    stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [name = '', home = '', shell = '', groups = ''] = line.split(' ');
        return [name, { home, shell, groups: groups.split(',').sort() }];
      }),
  );
}

export function createAccountActivities({ hosts }: { hosts: Hosts }) {
  const run = (context: CallContext, args: string[]) =>
    hosts.run(
      targetOf(context),
      { argv: ['/bin/bash', '-c', script, 'accounts', ...args] },
      { fence: context.fence, signal: cancellationSignal() },
    );
  return {
    /** Makes a system user with its group and home, and puts it into further groups. Idempotent by (run, step); undo `restoreAccount`. */
    async makeAccount({ with: raw, context }: CallInput) {
      const { name, home, shell, groups } = MakeAccount.parse(raw);
      await remember<AccountEntry>(hosts, context, async () => {
        const before = (await observeAccounts(hosts, context, [name]))[name] ?? null;
        const [place] = await lookAtPaths(hosts, targetOf(context), [home], 0);
        return {
          before,
          homeMade: before === null && place?.type === 'absent',
          groups: groups.filter((group) => !before?.groups.includes(group)),
        };
      });
      await run(context, ['make', name, home, shell, groups.join(',')]);
    },

    /**
     * Undo of `makeAccount`: removes the user that it made, with the home that it made, or takes it out of the groups. Throws `ThirdState`
     * while processes of that user run. Idempotent by (run, step).
     */
    async restoreAccount({ with: raw, context }: CallInput) {
      const { name } = Account.parse(raw);
      const entry = await recall<AccountEntry>(hosts, context);
      if (!entry) return;
      try {
        await run(context, [
          'restore',
          name,
          entry.before === null ? 'no' : 'yes',
          entry.homeMade ? 'yes' : 'no',
          entry.groups.join(','),
        ]);
      } catch (error) {
        if (!isFailure(error, 'CommandFailed') || !error.message.includes('ended with code 3')) throw error;
        throw thirdState(
          context,
          `user ${name}, whose processes still run,`,
          `Stop them: ps -u ${name}; then userdel ${name}`,
        );
      }
    },
  };
}
