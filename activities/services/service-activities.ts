import { cancellationSignal } from '@temporalio/activity';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { failure, isFailure } from '../../workflows/contracts/errors.js';
import { ServiceReference } from '../../workflows/contracts/service-reference.js';
import { targetOf } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import { recall, remember } from '../journal.js';
import { changeServices, serviceArgument, serviceStates, type ServiceState } from './service-script.js';

/** `services` are in start order; they are stopped in reverse. */
const Services = z.object({ services: z.array(ServiceReference).min(1) });
const RestartServices = Services.extend({
  dependants: z
    .array(ServiceReference)
    .default([])
    .describe('Services of the host that a stop of these takes down too: noted for the undo, and not restarted'),
});
const RestoreServices = Services.extend({
  step: z
    .enum(['stop', 'start', 'restart'])
    .default('restart')
    .describe(
      'What is undone. After a start: stopped. After a stop: as before, and what a boot has started meanwhile anew',
    ),
});
/** A service that takes longer to stop or start than this is stuck. Seconds, for all services of a step together. */
const PATIENCE_SECONDS = 500;

type States = Record<string, ServiceState>;

/** Stops, starts and restarts services of every kind, each with the way back to what was running. */
export function createServiceActivities({ hosts }: { hosts: Hosts }) {
  const act = async (
    context: CallContext,
    name: 'states' | 'stop' | 'start' | 'restart' | 'replace',
    services: readonly string[],
  ): Promise<{ states: States; at: number }> => {
    const { stdout } = await hosts.run(
      targetOf(context),
      {
        argv: ['/bin/bash', '-c', changeServices, 'services', name, ...services],
        timeoutSeconds: name === 'states' ? 60 : PATIENCE_SECONDS,
      },
      { signal: cancellationSignal(), ...(name === 'states' ? {} : { fence: context.fence }) },
    );
    return { states: serviceStates(stdout), at: Number(/^at (\d+)$/m.exec(stdout)?.[1]) };
  };

  /** What the services, and those that may go down with them, were like before this step of this run. */
  const before = async (
    context: CallContext,
    services: readonly ServiceReference[],
    dependants: readonly ServiceReference[] = [],
  ): Promise<States> => {
    const { entry } = await remember(hosts, context, async () => {
      const { states } = await act(context, 'states', [...services, ...dependants].map(serviceArgument));
      // A compose service has no container before its first start.
      const missing = services
        .filter(({ name, kind }) => kind !== 'compose' && (states[name]?.state ?? 'absent') === 'absent')
        .map(({ name }) => name);
      if (missing.length === 0) return states;
      const host = targetOf(context).name;
      throw failure('HostUnusable', `${host} has no ${missing.join(' and no ')}`, {
        host,
        step: context.step,
        remedy: 'Run provision-host first, or correct `services` in the inventory',
      });
    });
    return entry;
  };
  const namesOf = (services: readonly ServiceReference[]): string => services.map(({ name }) => name).join(', ');

  return {
    /** States of services on one host. Reads only. */
    async observeServices({ with: raw, context }: CallInput) {
      const { services } = Services.parse(raw);
      return { services: (await act(context, 'states', services.map(serviceArgument))).states };
    },

    /** Stops services, the last one first. Idempotent. `at`: when they were down, by the host's clock, ms since 1970. Undo: `restoreServices`. */
    async stopServices({ with: raw, context }: CallInput) {
      const { services } = Services.parse(raw);
      await before(context, services);
      const { at } = await act(context, 'stop', [...services].reverse().map(serviceArgument));
      return { at, summary: `${namesOf(services)} stopped` };
    },

    /**
     * Starts services in their order. Idempotent by (run, step): what runs before the step was started by somebody else, such as a boot of the
     * host, and is started anew. `at` as above. Undo: `restoreServices`, which stops them.
     */
    async startServices({ with: raw, context }: CallInput) {
      const { services } = Services.parse(raw);
      const was = await before(context, services);
      const { at } = await act(context, 'restart', services.map(instanceOf(was)));
      return { at, summary: `${namesOf(services)} started` };
    },

    /**
     * Restarts services in their order. Idempotent by (run, step): one that is already another instance than before the step
     * is left alone. Undo: `restoreServices` with the dependants among its services, which starts what was running.
     */
    async restartServices({ with: raw, context }: CallInput) {
      const { services, dependants } = RestartServices.parse(raw);
      const was = await before(context, services, dependants);
      const { at, states } = await act(context, 'restart', services.map(instanceOf(was)));
      const same = services.filter(({ name }) => states[name]?.instance === was[name]?.instance);
      if (same.length > 0)
        throw failure('VerificationFailed', `${namesOf(same)} on ${targetOf(context).name} did not restart`, {
          host: targetOf(context).name,
          step: context.step,
          remedy: 'Look into its journal on the host',
        });
      return { at, summary: `${namesOf(services)} restarted` };
    },

    /**
     * Undo of the three above: starts what was running before the step and stops what was not; of a start, stops all: what ran before it is
     * for the undo of the stop. Idempotent; does nothing when the step never began. The instances differ afterwards, the states do not.
     */
    async restoreServices({ with: raw, context }: CallInput) {
      const { services, step } = RestoreServices.parse(raw);
      const states = await recall<States>(hosts, context);
      if (!states) return;
      if (step === 'start') {
        await act(context, 'stop', [...services].reverse().map(serviceArgument));
        return;
      }
      const was = ({ name }: ServiceReference): string => states[name]?.state ?? 'absent';
      const down = services.filter((service) => ['stopped', 'absent'].includes(was(service))).reverse();
      const up = services.filter((service) => was(service) === 'running');
      if (down.length > 0) await act(context, 'stop', down.map(serviceArgument));
      // Another instance than before the stop was started by a boot, perhaps from a release that is gone by now.
      if (up.length > 0 && step === 'stop') await act(context, 'replace', up.map(instanceOf(states)));
      else if (up.length > 0) await act(context, 'start', up.map(serviceArgument));
      // What was failing before is given its start, and may fail as it did.
      for (const service of services.filter((one) => !down.includes(one) && !up.includes(one)))
        await act(context, 'start', [serviceArgument(service)]).catch((error: unknown) => {
          if (!isFailure(error, 'CommandFailed')) throw error;
        });
    },
  };
}

/** A service with the instance that it was, as `restart` and `replace` of the script want it. */
const instanceOf =
  (was: States) =>
  (service: ServiceReference): string =>
    `${was[service.name]?.instance ?? '-'}\t${serviceArgument(service)}`;
