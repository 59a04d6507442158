import { TemporalFailure } from '@temporalio/common';
import { CancellationScope, condition, proxyActivities } from '@temporalio/workflow';
import type { FrameActivities } from '../contracts/frame-activities.js';
import { noticeSystem } from '../contracts/notice-system.js';
import type { Notice } from '../contracts/notice.js';
import type { System } from '../contracts/system.js';
import { HEARTBEAT_TIMEOUT } from './activity-options.js';
import { taskQueueFor } from './calls.js';
import { reasonOf } from './progress.js';

/** Targets that are away are told again for so long, after pauses that grow from the first to the longest. Seconds. */
const AGAIN_SECONDS = 15 * 60;
const FIRST_PAUSE_SECONDS = 5;
const LONGEST_PAUSE_SECONDS = 2 * 60;

/** The notices of a run. */
export interface Notices {
  /**
   * Sends a notice beside the run: returns at once, never fails, and is not cancelled with the run. Targets that are away are told again for a quarter of an
   * hour (of a reminder by the next one), or until another notice of the same incident is told: what is over must not be opened after its end. What could not be sent becomes a note.
   * Tell once for each `dedupeKey`: a second time is passed over.
   */
  tell(notice: Notice): void;
  /**
   * Waits until all that was told is sent or given up, some twenty minutes of a worker's time after it was told at the latest. To be awaited before the run ends, when it holds nothing
   * any more: what is still under way then would be lost.
   */
  settled(): Promise<void>;
}

/** `system` as it is known when something is told; its name where the run has not read it: it was refused before. */
export function createNotices(system: () => System | string, note: (text: string) => void): Notices {
  const sending: Promise<void>[] = [];
  const told = new Set<string>();
  /** By incident, the newest notice, and what it waits for until it is sent or given up. */
  const newest = new Map<string, { key: string; sending?: Promise<void> }>();
  const send = async (notice: Notice): Promise<void> => {
    const { sendNotice } = proxyActivities<Pick<FrameActivities, 'sendNotice'>>({
      taskQueue: taskQueueFor(undefined),
      // One attempt takes a minute at most. A time without any worker does not count.
      startToCloseTimeout: '90 seconds',
      heartbeatTimeout: HEARTBEAT_TIMEOUT,
      retry: { initialInterval: '2 seconds', maximumInterval: '30 seconds', maximumAttempts: 5 },
      summary: `tell: ${notice.event}`,
    });
    const until = Date.now() + AGAIN_SECONDS * 1000;
    const passed = (): boolean => newest.get(notice.incident)?.key !== notice.dedupeKey;
    let only: string[] | undefined;
    try {
      for (let pause = FIRST_PAUSE_SECONDS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_SECONDS)) {
        // An older version's worker answers without `away`: then the run goes on as under that version.
        const { notes, away = [] } = await sendNotice({
          system: noticesOf(system()),
          notice,
          ...(only ? { only } : {}),
        });
        for (const text of notes) if (!away.some((one) => one.note === text)) note(text);
        if (away.length === 0) return;
        only = away.map(({ target }) => target);
        // Of a reminder the next one is the repeat: a hold that lasts for weeks must not fill its history for a target that is gone for good.
        const late = notice.event === 'reminder' || Date.now() + pause * 1000 > until;
        if (late || (await condition(passed, `${pause} seconds`, { summary: `tell ${only.join(', ')} again` }))) {
          for (const one of away) note(one.note);
          return;
        }
      }
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
      // What opens an incident must not arrive after what closes it.
      const before = newest.get(notice.incident)?.sending;
      const mine: { key: string; sending?: Promise<void> } = { key: notice.dedupeKey };
      newest.set(notice.incident, mine);
      mine.sending = CancellationScope.nonCancellable(async () => {
        if (before) await before;
        await send(notice);
        delete mine.sending;
      });
      sending.push(mine.sending);
    },
    async settled() {
      await CancellationScope.nonCancellable(async () => {
        while (sending.length > 0) await sending.shift();
      });
    },
  };
}

const noticesOf = (system: System | string) => (typeof system === 'string' ? system : noticeSystem(system));
