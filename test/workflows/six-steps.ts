import type { Plan } from '../../workflows/contracts/plan.js';
import { lane, stage, step, toyPlan } from './toy-plan.js';

/** Jobs and short changes, on a host and on none, alone and side by side. */
export const sixSteps = (system: string): Plan =>
  toyPlan(
    system,
    [
      lane('app', step('one', { kind: 'job' }), step('two')),
      stage([lane('app', step('three', { kind: 'job' })), lane('db', step('four'), step('five', { kind: 'job' }))]),
      lane('system', step('six')),
    ],
    { pointOfNoReturn: 'six' },
  );
