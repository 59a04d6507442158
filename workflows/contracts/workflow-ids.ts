import { Name } from './names.js';

/** What tells two runs of a runbook on a system apart: a time, a counter, the time that a schedule appends. */
const SUFFIX = /^[A-Za-z0-9][A-Za-z0-9_.:+-]{0,119}$/;
const LOCK = 'lock';

function name(value: string, what: string): string {
  if (!Name.safeParse(value).success) throw new TypeError(`not a ${what} name: ${JSON.stringify(value)}`);
  return value;
}

/**
 * `RUNBOOK/SYSTEM/SUFFIX`, the workflow id of a run that the command or a schedule starts. A run from the Web UI may have any
 * other id: nothing may depend on reading one back.
 * Throws TypeError for a part that cannot stand in an id; callers parse their input first.
 */
export function runWorkflowId(runbook: string, system: string, suffix: string): string {
  if (name(runbook, 'runbook') === LOCK) throw new TypeError('a runbook cannot be called "lock"');
  if (!SUFFIX.test(suffix)) throw new TypeError(`not a suffix of a workflow id: ${JSON.stringify(suffix)}`);
  return `${runbook}/${name(system, 'system')}/${suffix}`;
}

/** The parts of an id made by runWorkflowId, undefined for any other id. */
export function parseRunWorkflowId(id: string): { runbook: string; system: string; suffix: string } | undefined {
  const [runbook, system, suffix, ...rest] = id.split('/');
  if (runbook === undefined || system === undefined || suffix === undefined || rest.length > 0 || runbook === LOCK)
    return undefined;
  if (!Name.safeParse(runbook).success || !Name.safeParse(system).success || !SUFFIX.test(suffix)) return undefined;
  return { runbook, system, suffix };
}

/**
 * `lock/SYSTEM`, or `lock/SYSTEM/HOST`: the id of the child workflow that is the lock of a system or of one of its hosts. Whoever
 * starts it holds the lock. Throws TypeError for a name that the inventory would have refused.
 */
export function lockWorkflowId({ system, host }: Lockable): string {
  return `${LOCK}/${name(system, 'system')}${host === undefined ? '' : `/${name(host, 'host')}`}`;
}

/** What an id made by lockWorkflowId locks, undefined for any other id. */
export function parseLockWorkflowId(id: string): Lockable | undefined {
  const [lock, system, host, ...rest] = id.split('/');
  if (lock !== LOCK || system === undefined || rest.length > 0 || !Name.safeParse(system).success) return undefined;
  if (host === undefined) return { system };
  return Name.safeParse(host).success ? { system, host } : undefined;
}

/** What a run can hold for itself: a system, or one host of it. */
export interface Lockable {
  system: string;
  host?: string;
}
