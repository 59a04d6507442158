import { z } from 'zod';

export const UnitName = z
  .string()
  .regex(/^[A-Za-z0-9:_.@\\-]+\.(service|timer|socket)$/, 'a unit name that ends in .service, .timer or .socket')
  .describe('Unit name with its suffix');

/** A systemd unit as `observeUnits` saw it, in systemd's own words. */
export const SeenUnit = z.object({
  load: z.string().describe('loaded, not-found, masked ...'),
  enabled: z.string().describe("enabled, disabled, static ... or '-'"),
  active: z.string().describe('active, inactive, failed ...'),
});
export type SeenUnit = z.infer<typeof SeenUnit>;

export const isUnitActive = (unit: SeenUnit | undefined): boolean =>
  unit !== undefined && ['active', 'activating', 'reloading'].includes(unit.active);
export const isUnitEnabled = (unit: SeenUnit | undefined): boolean => unit?.enabled.startsWith('enabled') ?? false;
