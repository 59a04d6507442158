import type { CallName } from '../contracts/calls.js';
import type { Call } from '../contracts/plan.js';

/** A call of an activity by a name of the table. */
export const call = (activity: CallName, argument: Record<string, unknown>): Call => ({
  activity,
  with: argument as Call['with'],
});

/** A text as part of a step id: `/etc/nginx/nginx.conf` becomes `etc-nginx-nginx-conf`. At most 50 characters, the last ones. */
export function idPart(text: string): string {
  return text
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(-50)
    .replace(/^-+/, '');
}
