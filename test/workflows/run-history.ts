import { defaultPayloadConverter } from '@temporalio/common';
import type proto from '@temporalio/proto';
import { Worker } from '@temporalio/worker';
import { WORKFLOW_BUNDLE } from '../../workers/worker-options.js';

export type History = proto.temporal.api.history.v1.IHistory;
export type HistoryEvent = proto.temporal.api.history.v1.IHistoryEvent;

export interface RecordedRun {
  workflowId: string;
  history: History;
}

/** The events of one kind, in their order: `of(history, 'activityTaskScheduledEventAttributes')`. */
export function attributesOf<K extends keyof HistoryEvent>(
  history: History,
  kind: K,
): { event: HistoryEvent; attributes: NonNullable<HistoryEvent[K]> }[] {
  return (history.events ?? []).flatMap((event) => {
    const attributes = event[kind];
    return attributes === null || attributes === undefined ? [] : [{ event, attributes }];
  });
}

/** What the Web UI shows for an event. */
export function summaryOf(event: HistoryEvent): string | undefined {
  const payload = event.userMetadata?.summary;
  return payload ? defaultPayloadConverter.fromPayload<string>(payload) : undefined;
}

/** The activities, timers and children of a history that the Web UI shows without a word of what they are for. */
export function unnamed(history: History): string[] {
  return (history.events ?? [])
    .filter(
      (event) =>
        event.activityTaskScheduledEventAttributes ??
        event.timerStartedEventAttributes ??
        event.startChildWorkflowExecutionInitiatedEventAttributes,
    )
    .filter((event) => !summaryOf(event)?.trim())
    .map(
      (event) =>
        `event ${String(event.eventId)}: ${event.activityTaskScheduledEventAttributes?.activityType?.name ?? (event.timerStartedEventAttributes ? 'timer' : 'child')}`,
    );
}

/** The activities that a run scheduled, by their summaries, in order. */
export function scheduled(history: History): string[] {
  return attributesOf(history, 'activityTaskScheduledEventAttributes').map(({ event }) => summaryOf(event) ?? '');
}

/** Replays histories with a bundle, by default today's. Returns what does not fit, in words. */
export async function replay(runs: readonly RecordedRun[], bundle = WORKFLOW_BUNDLE): Promise<string[]> {
  const problems: string[] = [];
  const results = Worker.runReplayHistories({ workflowBundle: { codePath: bundle } }, runs);
  for await (const { workflowId, error } of results)
    if (error) problems.push(`${workflowId} does not replay: ${error.message}`);
  return problems;
}
