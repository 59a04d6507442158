import { randomUUID } from 'node:crypto';
import { notice } from '../../workflows/contracts/notice.js';
import type { System } from '../../workflows/contracts/system.js';
import type { Bounds } from '../notify/attempt.js';
import { sendNotice } from '../notify/send-notice.js';
import type { Secrets } from '../secrets/resolve.js';
import type { Examination, Finding } from './findings.js';

/**
 * Sends every target of a system a notice that says it is a trial of `asker`'s, and closes the incidents that it opens. Each call sends anew. Never
 * throws for a target's sake.
 */
export async function examineNotices(
  system: System,
  asker: string,
  secrets: Secrets,
  bounds?: Bounds,
): Promise<Examination> {
  const about = `notices of ${system.system}`;
  if (Object.keys(system.notifications).length === 0) {
    const remedy = `Add \`notifications\` to ${system.system}.yaml`;
    const found = 'none: nobody is told of anything';
    return { about, findings: [{ id: 'notices', title: 'targets', state: 'warning', found, remedy }] };
  }
  const incident = `trial/${randomUUID()}`;
  const words = { system: system.system, incident, tier: 9, occurredAt: new Date().toISOString() };
  const trial = notice({
    event: 'trial',
    ...words,
    title: `${system.system}: this is a trial, nothing has happened`,
    text: `${asker} tries whether notices of guardia arrive here. There is nothing to do.`,
    dedupeKey: incident,
  });
  const options = { secrets, ...(bounds ? { bounds } : {}) };
  const { deliveries } = await sendNotice(system, trial, options);
  const opened = deliveries.flatMap(({ target, kind, outcome }) =>
    kind === 'pagerduty' && outcome === 'sent' ? [target] : [],
  );
  const over = notice({
    event: 'recovered',
    about: 'trial',
    ...words,
    title: `${system.system}: the trial is over`,
    text: 'It was a trial.',
    dedupeKey: `${incident}/over`,
  });
  const closed = opened.length === 0 ? [] : (await sendNotice(system, over, { ...options, only: opened })).deliveries;
  return {
    about,
    findings: deliveries.map(({ target, kind, outcome, reason = '' }): Finding => {
      const id = `notice-${target}`;
      const title = `${target} (${kind})`;
      const open = closed.find((one) => one.target === target && one.outcome !== 'sent');
      if (open !== undefined)
        return {
          id,
          title,
          state: 'warning',
          found: `told, but the incident stays open: ${open.reason ?? ''}`,
          remedy: 'Resolve it by hand',
        };
      if (outcome === 'skipped') return { id, title, state: 'skipped', found: reason };
      if (outcome === 'failed')
        return {
          id,
          title,
          state: 'missing',
          found: reason,
          remedy: `Correct notifications.${target} of ${system.system}, or what stands between it and this machine`,
        };
      return { id, title, state: 'ok', found: 'told: see whether it has arrived' };
    }),
  };
}
