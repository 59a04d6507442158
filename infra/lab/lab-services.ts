import { isRunning, type ProcessIdentity } from '../../activities/temporal/process-identity.js';
import { shown } from '../packaging/toolbox-cache.js';
import { gitServer } from './git-server.js';
import { writeState, type LabState } from './lab-state.js';
import { noticesServer } from './notices-server.js';
import { s3Server } from './s3-server.js';

/** A server beside the hosts: a process of this machine that listens on the lab's bridge. */
export interface LabService {
  name: string;
  /** Whether this lab has it; by default every one. */
  wanted?(state: LabState): boolean;
  /** Starts it, with its data below the lab's directory; called again after a restore. */
  start(state: LabState): Promise<ProcessIdentity>;
  /** Returns when it answers and is set up. Idempotent. */
  ready(state: LabState): Promise<void>;
}

/** Started in this order before the hosts. They are ended by their recorded process; nothing else of them may run. */
export const services: LabService[] = [s3Server, gitServer, noticesServer];

/** Starts those that do not run, and returns when all answer. Idempotent. */
export async function startServices(state: LabState): Promise<void> {
  for (const service of services.filter((one) => one.wanted?.(state) ?? true)) {
    await shown(`starting ${service.name} of the lab ${state.name}`, async () => {
      const running = state.services[service.name];
      if (running === undefined || !isRunning(running)) {
        state.services[service.name] = await service.start(state);
        writeState(state);
      }
      await service.ready(state);
    });
  }
}
