import { noticeEvents, type Notice } from '../../workflows/contracts/notice.js';
import { noticeText } from './notice-text.js';

/** The body of PagerDuty's Events API v2. All notices of one matter are one incident. Holds the routing key: a secret. Pure. */
export function pagerDutyBody(notice: Notice, routingKey: string): string {
  return JSON.stringify({
    routing_key: routingKey,
    event_action: noticeEvents[notice.event].action,
    dedup_key: notice.incident,
    client: 'guardia',
    ...(notice.link === undefined
      ? {}
      : { client_url: notice.link, links: [{ href: notice.link, text: 'The run in the Web UI' }] }),
    payload: {
      summary: notice.title,
      source: notice.host ?? notice.system,
      severity: notice.severity,
      timestamp: notice.occurredAt,
      component: notice.runbook ?? 'guardia',
      group: notice.system,
      class: notice.event,
      custom_details: { details: noticeText(notice), ...(notice.command ? { command: notice.command } : {}) },
    },
  });
}
