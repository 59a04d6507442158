import { z } from 'zod';

/** What an administrator makes of a server: takes requests, takes no new ones, or is not even checked. */
export const BalancerState = z.enum(['ready', 'drain', 'maint']);
export type BalancerState = z.infer<typeof BalancerState>;

/** Servers of a balancer by BACKEND/NAME. */
export const ServerStates = z.record(
  z.string(),
  z.object({
    admin: BalancerState,
    sessions: z.int().describe('Requests in flight'),
    queued: z.int().describe('Requests that wait for it'),
    check: z.string().describe('What its health check says, in the words of HAProxy: UP, DOWN, no check'),
  }),
);
export type ServerStates = z.infer<typeof ServerStates>;

/** Whether the balancer's own check finds that a server does not answer. A check that goes over to DOWN has not found it yet. Pure. */
export const isDown = (server: ServerStates[string] | undefined): boolean => server?.check.startsWith('DOWN') ?? false;
