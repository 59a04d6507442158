import type { Step } from '../contracts/plan.js';
import { isUnitActive, isUnitEnabled, type SeenUnit } from '../contracts/units.js';
import { call, idPart } from './call.js';

/** A unit that is enabled and runs, or not. Fields that are missing are left as they are. No step where it is so already. */
export function unit(
  now: SeenUnit | undefined,
  wanted: { unit: string; enabled?: boolean; active?: boolean; why: string; id?: string },
): Step[] {
  const { unit: name, enabled, active, why, id } = wanted;
  const enable = enabled === undefined || isUnitEnabled(now) === enabled ? undefined : enabled;
  const start = active === undefined || isUnitActive(now) === active ? undefined : active;
  if (enable === undefined && start === undefined) return [];
  const words = [
    ...(enable === undefined ? [] : [enable ? 'enable' : 'disable']),
    ...(start === undefined ? [] : [start ? 'start' : 'stop']),
  ];
  return [
    {
      id: id ?? `${words.join('-')}-${idPart(name)}`,
      title: `${words.join(' and ')} ${name}`,
      why,
      do: call('setUnit', {
        unit: name,
        ...(enable === undefined ? {} : { enabled: enable }),
        ...(start === undefined ? {} : { active: start }),
      }),
      undo: call('restoreUnit', { unit: name }),
    },
  ];
}

/**
 * Steps that change what a running unit has read, and the reload or restart that makes it read them again. Undone in reverse, the unit
 * reads the old files once they are back: that is what the first step is for. `reload-then-restart`: how the unit stops is among the
 * settings, and a restart on the way back would stop it as the old ones say. No steps stay no steps.
 */
export function applied(
  options: { unit: string; how: 'restart' | 'reload' | 'reload-then-restart'; why: string; id?: string },
  steps: Step[],
): Step[] {
  const { unit: name, how, why, id = idPart(options.unit) } = options;
  if (steps.length === 0) return [];
  const ways = how === 'reload-then-restart' ? (['reload', 'restart'] as const) : [how];
  const [back] = ways;
  return [
    {
      id: `note-${id}`,
      title: `note whether ${name} runs`,
      why: `if this run is undone, ${name} is to ${back} after its files are back`,
      do: call('noteUnit', { unit: name, how: back }),
      undo: call('reapplyUnit', { unit: name, how: back }),
    },
    ...steps,
    ...ways.map((way) => ({
      id: `${way}-${id}`,
      title: `${way} ${name}`,
      why: way === how || way === 'restart' ? why : 'what it does when it stops is in force before it stops',
      do: call('applyUnit', { unit: name, how: way }),
      undo: { none: `the step "note whether ${name} runs" does it, after the files are back` },
    })),
  ];
}
