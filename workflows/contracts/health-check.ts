import { z } from 'zod';
import { ProbeResult } from './probe-result.js';
import { runInput } from './run.js';

export const HealthCheckInput = z.strictObject({ ...runInput });
export type HealthCheckInput = z.infer<typeof HealthCheckInput>;

/** The result of a health check, in its report: counts, and every probe in the order of the inventory. */
export const HealthCheckResult = z.object({
  ok: z.int(),
  warning: z.int(),
  critical: z.int(),
  unknown: z.int(),
  probes: z.array(ProbeResult),
});
export type HealthCheckResult = z.infer<typeof HealthCheckResult>;
