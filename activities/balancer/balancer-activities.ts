import { readFileSync } from 'node:fs';
import { cancellationSignal } from '@temporalio/activity';
import { z } from 'zod';
import { BalancerState, isDown, type ServerStates } from '../../workflows/contracts/balancer.js';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { failure, isFailure } from '../../workflows/contracts/errors.js';
import { targetOf } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import { recall, remember } from '../journal.js';

const script = readFileSync(new URL('./admin-socket.sh', import.meta.url), 'utf8');

const ObserveBalancer = z.object({ socket: z.string(), backends: z.array(z.string()) });
const SetServers = z.object({
  socket: z.string(),
  servers: z.array(z.string().regex(/^[^/\s]+\/[^/\s]+$/)).min(1),
  state: BalancerState,
  waitSeconds: z.int().min(1).max(500),
});

/** Exit codes of the script. */
const NOBODY_LEFT = 4;
const NOT_IN_TIME = 5;

/** Takes servers out of HAProxy and back in, by its admin socket. */
export function createBalancerActivities({ hosts }: { hosts: Hosts }) {
  const ask = async (
    context: CallContext,
    args: readonly string[],
    options: { fenced: boolean; seconds?: number },
  ): Promise<ServerStates> => {
    const host = targetOf(context);
    const { exitCode, stdout, stderr } = await hosts.run(
      host,
      {
        argv: ['/bin/bash', '-c', script, 'balancer', ...args],
        timeoutSeconds: 40 + (options.seconds ?? 0),
        okCodes: [0, NOBODY_LEFT, NOT_IN_TIME],
      },
      { signal: cancellationSignal(), ...(options.fenced ? { fence: context.fence } : {}) },
    );
    const about = { host: host.name, step: context.step };
    const said = stderr.trim().split('\n').at(-1);
    if (exitCode === NOBODY_LEFT)
      throw failure('NoServerLeft', `the balancer on ${host.name}: ${said}`, {
        ...about,
        remedy: 'Bring another server back first; nothing was taken out',
      });
    if (exitCode === NOT_IN_TIME)
      throw failure('VerificationFailed', `the balancer on ${host.name}: ${said}`, {
        ...about,
        remedy: 'Look at long requests, and at the health check of the backend',
      });
    return serverStates(stdout);
  };
  const set = (
    context: CallContext,
    { socket, servers, state, waitSeconds }: z.infer<typeof SetServers>,
  ): Promise<ServerStates> =>
    ask(context, ['set', socket, state, String(waitSeconds), ...servers], { fenced: true, seconds: waitSeconds });

  return {
    /** State, requests in flight and health check of every server of some backends. Reads only. */
    async observeBalancer({ with: raw, context }: CallInput): Promise<{ servers: ServerStates }> {
      const { socket, backends } = ObserveBalancer.parse(raw);
      const all = await ask(context, ['observe', socket], { fenced: false });
      return {
        servers: Object.fromEntries(
          Object.entries(all).filter(([name]) => backends.includes(name.split('/')[0] ?? '')),
        ),
      };
    },

    /**
     * Gives servers a state and waits until it is seen: with `drain` and `maint` no request is in flight any more, with `ready` the
     * balancer's own check sees them. Never takes the last server that answers out of a backend (`NoServerLeft`). Idempotent by its argument.
     * Undo: `restoreServers` with the same argument.
     */
    async setServers({ with: raw, context }: CallInput) {
      const argument = SetServers.parse(raw);
      await remember(hosts, context, () => ask(context, ['observe', argument.socket], { fenced: false }));
      const done = await set(context, argument);
      const one = done[argument.servers[0] ?? ''];
      return { summary: `${argument.servers.join(', ')}: ${argument.state}${one ? `, ${one.check}` : ''}` };
    },

    /**
     * Undo of `setServers`: gives each server the state from before, and waits for it as that does; not for the check of one that did not
     * answer before either, and requests that outlast the wait are only told. One that does not come up is taken out again before it fails.
     * Never takes the last server that answers out either (`NoServerLeft`): a release that is to go answers people better than nobody does.
     * Idempotent; does nothing when the step never began. A server that was out before does not come in.
     */
    async restoreServers({ with: raw, context }: CallInput) {
      const before = await recall<ServerStates>(hosts, context);
      if (!before) return {};
      const argument = SetServers.parse(raw);
      const notes: string[] = [];
      for (const state of BalancerState.options) {
        const servers = argument.servers.filter((name) => before[name]?.admin === state);
        const down = state === 'ready' ? servers.filter((name) => isDown(before[name])) : [];
        const others = servers.filter((name) => !down.includes(name));
        if (down.length > 0) await set(context, { ...argument, state, servers: down, waitSeconds: 0 });
        if (others.length === 0) continue;
        try {
          await set(context, { ...argument, state, servers: others });
        } catch (error) {
          if (!isFailure(error, 'VerificationFailed')) throw error;
          // On the way back nobody waits longer for requests than on the way there: what is broken has to go.
          if (state !== 'ready') {
            notes.push(error.message);
            continue;
          }
          // Whoever comes back later may have another release by then: no requests for it until this was done again.
          await set(context, { ...argument, servers: others, waitSeconds: 0 });
          throw error;
        }
      }
      return notes.length === 0 ? {} : { summary: notes.join('; ') };
    },
  };
}

/** What the script printed. Pure. */
export function serverStates(stdout: string): ServerStates {
  return Object.fromEntries(
    [...stdout.matchAll(/^server (\S+) (\S+) (\d+) (\d+) (\S+)$/gm)].map(
      ([, name = '', admin, sessions, queued, check = '']) => [
        name,
        {
          admin: BalancerState.parse(admin),
          sessions: Number(sessions),
          queued: Number(queued),
          check: check.replaceAll('_', ' '),
        },
      ],
    ),
  );
}
