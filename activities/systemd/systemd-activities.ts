import { cancellationSignal } from '@temporalio/activity';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { failure } from '../../workflows/contracts/errors.js';
import { isUnitActive, isUnitEnabled, UnitName, type SeenUnit } from '../../workflows/contracts/units.js';
import { targetOf } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import { recall, remember, thirdState } from '../journal.js';

const script = readFileSync(new URL('./units.sh', import.meta.url), 'utf8');

/** A unit may take this long to start or to stop. Seconds. */
const UNIT_SECONDS = 180;

const ObserveUnits = z.strictObject({ units: z.array(UnitName).max(100) });
const Unit = z.strictObject({ unit: UnitName });
const anew = z
  .boolean()
  .default(false)
  .describe(
    'One that is to run and runs already is restarted: it may have started, with the host, amid a change of what it reads',
  );
const RestoreUnit = Unit.extend({
  anew,
  stopped: z
    .boolean()
    .default(false)
    .describe('It was stopped when the run began this step, whatever a reboot of the host has started before'),
});
const SetUnit = Unit.extend({
  anew,
  enabled: z.boolean().optional().describe('Whether it starts with the host; left as it is when missing'),
  active: z.boolean().optional().describe('Whether it runs; left as it is when missing'),
});
const ApplyUnit = Unit.extend({ how: z.enum(['restart', 'reload']) });

interface UnitEntry {
  before: SeenUnit;
  after: { enabled?: boolean; active?: boolean };
}

async function run(hosts: Hosts, context: CallContext, args: string[], changes: boolean): Promise<string> {
  const { stdout } = await hosts.run(
    targetOf(context),
    { argv: ['/bin/bash', '-c', script, 'units', ...args], timeoutSeconds: UNIT_SECONDS },
    { signal: cancellationSignal(), ...(changes ? { fence: context.fence } : {}) },
  );
  return stdout;
}

/** Load state, enablement and activity of units, by name. Reads only. */
export async function observeUnits(
  hosts: Hosts,
  context: CallContext,
  units: readonly string[],
): Promise<Record<string, SeenUnit>> {
  return units.length === 0 ? {} : parse(await run(hosts, context, ['look', ...units], false));
}

export function createSystemdActivities({ hosts }: { hosts: Hosts }) {
  const look = async (context: CallContext, unit: string): Promise<SeenUnit> =>
    (await observeUnits(hosts, context, [unit]))[unit] as SeenUnit;

  return {
    /** Load state, enablement and activity of units, by name. Reads only. */
    async observeUnits({ with: raw, context }: CallInput): Promise<{ units: Record<string, SeenUnit> }> {
      const { units } = ObserveUnits.parse(raw);
      return { units: await observeUnits(hosts, context, units) };
    },

    /**
     * Enables or disables, starts or stops a unit, and returns once it is seen so: a unit that dies at once is a failure.
     * Idempotent by (run, step); undo `restoreUnit`.
     */
    async setUnit({ with: raw, context }: CallInput) {
      const { unit, anew, ...after } = SetUnit.parse(raw);
      await remember<UnitEntry>(hosts, context, async () => {
        const before = await look(context, unit);
        if (before.load === 'not-found')
          throw failure('HostUnusable', `${targetOf(context).name} has no unit ${unit}`, {
            host: targetOf(context).name,
            step: context.step,
            remedy: 'Install what it belongs to first',
          });
        return { before, after: after as UnitEntry['after'] };
      });
      await run(hosts, context, ['set', unit, enabledWord(after.enabled), activeWord(after.active, anew)], true);
    },

    /** Undo of `setUnit`: enablement and activity as the step found them. Idempotent by (run, step). */
    async restoreUnit({ with: raw, context }: CallInput) {
      const { unit, anew, stopped } = RestoreUnit.parse(raw);
      const entry = await recall<UnitEntry>(hosts, context);
      if (!entry) return;
      const { before, after } = entry;
      const now = await look(context, unit);
      // It went with its package or its file, which are put back by their own undo.
      if (now.load === 'not-found') return;
      if (now.load === 'masked' && before.load !== 'masked')
        throw thirdState(context, `unit ${unit}`, `Somebody masked it. systemctl unmask ${unit}, or leave it so`);
      const was = { enabled: isUnitEnabled(before), active: !stopped && isUnitActive(before) };
      const enabled = after.enabled === undefined || isUnitEnabled(now) === was.enabled ? undefined : was.enabled;
      const same = isUnitActive(now) === was.active && !(anew && was.active);
      const active = after.active === undefined || same ? undefined : was.active;
      if (enabled === undefined && active === undefined) return;
      await run(hosts, context, ['set', unit, enabledWord(enabled), activeWord(active, anew)], true);
    },

    /**
     * Changes nothing: notes whether a unit runs, before the files that it reads are changed. Its undo, `reapplyUnit`, runs after their
     * undos, so that the unit reads the old files again. Idempotent by (run, step).
     */
    async noteUnit({ with: raw, context }: CallInput) {
      const { unit } = ApplyUnit.parse(raw);
      await remember<SeenUnit>(hosts, context, () => look(context, unit));
    },

    /** Makes a running unit read its files again and returns once it is active; one that does not run stays so. */
    async applyUnit({ with: raw, context }: CallInput) {
      const { unit, how } = ApplyUnit.parse(raw);
      await run(hosts, context, ['apply', unit, how], true);
    },

    /**
     * Undo of `noteUnit`: a unit that ran then, and is still there, reads its files again. One that had failed, and that `applyUnit` has
     * started, fails with its old files again; should it not, it is stopped. Idempotent: it may read them twice.
     */
    async reapplyUnit({ with: raw, context }: CallInput) {
      const { unit, how } = ApplyUnit.parse(raw);
      const before = await recall<SeenUnit>(hosts, context);
      if (!before) return;
      const now = await look(context, unit);
      if (now.load === 'not-found') return;
      if (isUnitActive(before)) await run(hosts, context, ['apply', unit, how], true);
      else if (before.active === 'failed' && isUnitActive(now)) await run(hosts, context, ['fail', unit], true);
    },
  };
}

const enabledWord = (enabled: boolean | undefined): string =>
  enabled === undefined ? '-' : enabled ? 'enabled' : 'disabled';
const activeWord = (active: boolean | undefined, anew: boolean): string =>
  active === undefined ? '-' : !active ? 'inactive' : anew ? 'anew' : 'active';

function parse(output: string): Record<string, SeenUnit> {
  return Object.fromEntries(
    output
      .trimEnd()
      .split('\n')
      .map((line) => {
        const [unit = '', load = 'not-found', enabled = '-', active = 'inactive'] = line.split(' ');
        return [unit, { load, enabled, active }];
      }),
  );
}
