import type { Application } from '../contracts/application.js';
import type { Step } from '../contracts/plan.js';
import { call } from './call.js';

/** Uses the application on its host as a user would, where the inventory says how. */
export function smoke(host: string, { deployment }: Application): Step[] {
  const calls = Object.values(deployment.smoke);
  if (calls.length === 0) return [];
  return [
    {
      id: `smoke-${host}`,
      title: `try it: ${calls.map(({ title }) => title).join(', ')}`,
      why: 'a service can be healthy and of no use',
      do: call('runSmokeTest', { calls }),
      undo: { none: "what it writes is a test user's" },
      attempts: 2,
    },
  ];
}
