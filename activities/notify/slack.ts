import type { Notice } from '../../workflows/contracts/notice.js';
import { noticeText } from './notice-text.js';

const colors: Readonly<Record<Notice['severity'], string>> = {
  info: '#439FE0',
  warning: 'warning',
  error: 'danger',
  critical: 'danger',
};

/** Characters of one text that Slack shows. */
const LONGEST = 2900;

/** The body of an incoming webhook as Slack, Mattermost and Rocket.Chat take it. Pure. */
export function slackBody(notice: Notice): string {
  const title = escaped(notice.title);
  const text = noticeText(notice);
  return JSON.stringify({
    text: `*${title}*`,
    attachments: [
      {
        color: notice.event === 'recovered' ? 'good' : colors[notice.severity],
        fallback: title,
        // As it is written: no mark of ours or of a host's output becomes a format, a link or a mention.
        text: `\`\`\`${escaped(text.length > LONGEST ? `${text.slice(0, LONGEST)}...` : text).replaceAll('```', "'''")}\`\`\``,
        mrkdwn_in: ['text'],
        ...(notice.link === undefined ? {} : { title: 'Open the run', title_link: notice.link }),
      },
    ],
  });
}

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
