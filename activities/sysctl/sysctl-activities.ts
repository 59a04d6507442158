import { cancellationSignal } from '@temporalio/activity';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { AbsolutePath } from '../../workflows/contracts/names.js';
import { targetOf } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import { recall, remember } from '../journal.js';

const script = readFileSync(new URL('./sysctl.sh', import.meta.url), 'utf8');

const Sysctl = z.strictObject({ paths: z.array(AbsolutePath).min(1) });

/** What stood before: `KEY=VALUE` of each setting that the files hold. */
interface SysctlEntry {
  values: string[];
}

/** What the kernel says of these settings, with blanks as one; those that it does not have are left out. Reads only. */
export async function observeKernel(
  hosts: Hosts,
  context: CallContext,
  keys: readonly string[],
): Promise<Record<string, string>> {
  const { stdout } = await hosts.run(
    targetOf(context),
    { argv: ['/bin/bash', '-c', 'sysctl -e -- "$@" 2>/dev/null; true', 'sysctl', ...keys] },
    { signal: cancellationSignal() },
  );
  return Object.fromEntries(
    stdout.split('\n').flatMap((line) => {
      const [, key, value] = /^(\S+) = (.*)$/.exec(line) ?? [];
      return key === undefined || value === undefined ? [] : [[key, value.trim().replaceAll(/\s+/g, ' ')]];
    }),
  );
}

/** Kernel settings of the machine. Not for a container, whose machine is not its own. */
export function createSysctlActivities({ hosts }: { hosts: Hosts }) {
  const run = async (context: CallContext, args: string[], changes = true): Promise<string[]> => {
    const { stdout } = await hosts.run(
      targetOf(context),
      { argv: ['/bin/bash', '-c', script, 'sysctl', ...args] },
      { signal: cancellationSignal(), ...(changes ? { fence: context.fence } : {}) },
    );
    return stdout.split('\n').filter((line) => line !== '');
  };
  return {
    /** Puts files of kernel settings in force, as the next boot will. Idempotent by (run, step); undo `restoreSysctl`. */
    async applySysctl({ with: raw, context }: CallInput) {
      const { paths } = Sysctl.parse(raw);
      const { entry } = await remember<SysctlEntry>(hosts, context, async () => ({
        values: await run(context, ['read', ...paths], false),
      }));
      await run(context, ['apply', ...paths]);
      const now = await run(context, ['read', ...paths], false);
      const changed = now.filter((line) => !entry.values.includes(line)).length;
      return { summary: changed === 0 ? 'in force already' : `${changed} changed` };
    },

    /** Undo of `applySysctl`: the values from before are in force again. Idempotent. */
    async restoreSysctl({ context }: CallInput) {
      const entry = await recall<SysctlEntry>(hosts, context);
      if (entry && entry.values.length > 0) await run(context, ['set', ...entry.values]);
    },
  };
}
