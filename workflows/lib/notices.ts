import { TemporalFailure } from '@temporalio/common';
import { CancellationScope, proxyActivities } from '@temporalio/workflow';
import type { FrameActivities } from '../contracts/frame-activities.js';
import { noticeSystem } from '../contracts/notice-system.js';
import type { Notice } from '../contracts/notice.js';
import type { System } from '../contracts/system.js';
import { HEARTBEAT_TIMEOUT } from './activity-options.js';
import { taskQueueFor } from './calls.js';
import { reasonOf } from './progress.js';

/** The notices of a run. */
export interface Notices {
  /**
   * Sends a notice beside the run: returns at once, never fails, and is not cancelled with the run. What could not be sent becomes a note.
   * Tell once for each `dedupeKey`: a second time is passed over.
   */
  tell(notice: Notice): void;
  /**
   * Waits until all that was told is sent or given up, five minutes after it was told at the latest. To be awaited before the run ends: what is still
   * under way then would be lost.
   */
  settled(): Promise<void>;
}

/** `system` as it is known when something is told; its name where the run has not read it: it was refused before. */
export function createNotices(system: () => System | string, note: (text: string) => void): Notices {
  const sending: Promise<void>[] = [];
  const told = new Set<string>();
  const send = async (notice: Notice): Promise<void> => {
    try {
      const { notes } = await proxyActivities<Pick<FrameActivities, 'sendNotice'>>({
        taskQueue: taskQueueFor(undefined),
        // One attempt takes a minute at most. Whatever happens, no run waits longer than this for its notices.
        startToCloseTimeout: '90 seconds',
        scheduleToCloseTimeout: '5 minutes',
        heartbeatTimeout: HEARTBEAT_TIMEOUT,
        retry: { initialInterval: '2 seconds', maximumInterval: '30 seconds', maximumAttempts: 5 },
        summary: `tell: ${notice.event}`,
      }).sendNotice({ system: noticesOf(system()), notice });
      for (const text of notes) note(text);
    } catch (error) {
      if (!(error instanceof TemporalFailure)) throw error;
      // No run fails for want of its notices; it says so instead.
      note(`The notice "${notice.event}" could not be sent: ${reasonOf(error)}`);
    }
  };
  return {
    tell(notice) {
      if (told.has(notice.dedupeKey)) return;
      told.add(notice.dedupeKey);
      sending.push(CancellationScope.nonCancellable(() => send(notice)));
    },
    async settled() {
      await CancellationScope.nonCancellable(async () => {
        while (sending.length > 0) await sending.shift();
      });
    },
  };
}

const noticesOf = (system: System | string) => (typeof system === 'string' ? system : noticeSystem(system));
