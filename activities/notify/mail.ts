import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createTransport } from 'nodemailer';
import type { Notice } from '../../workflows/contracts/notice.js';
import type { Mail } from '../../workflows/contracts/notifications.js';
import { given } from '../../workflows/contracts/unset.js';
import type { Secrets } from '../secrets/resolve.js';
import { DeliveryFailure } from './attempt.js';
import { connectionProblem } from './http-post.js';
import { noticeText } from './notice-text.js';

const ports = { starttls: 587, tls: 465, none: 25 } as const;

/**
 * Sends a notice by SMTP. The message's id follows from the notice, so that a mail server or reader can tell a repetition, and the mails of one matter
 * stand together. Throws DeliveryFailure, `SecretUnavailable`, `UnsetValue`.
 */
export async function sendMail(
  notice: Notice,
  { to, mail, id }: { to: string; mail: Mail; id: string },
  secrets: Secrets,
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
): Promise<void> {
  const user = mail.user === undefined ? undefined : given(mail.user, 'mail.user');
  const pass =
    mail.password === undefined ? undefined : (await secrets.resolve(given(mail.password, 'mail.password'))).reveal();
  const transport = createTransport({
    host: given(mail.host, 'mail.host'),
    port: mail.port ?? ports[mail.security],
    secure: mail.security === 'tls',
    requireTLS: mail.security === 'starttls',
    ignoreTLS: mail.security === 'none',
    ...(user !== undefined && pass !== undefined ? { auth: { user, pass } } : {}),
    ...(mail.authorities === undefined ? {} : { tls: { ca: await authorities(mail.authorities) } }),
    connectionTimeout: timeoutMs,
    greetingTimeout: timeoutMs,
    socketTimeout: timeoutMs,
    dnsTimeout: timeoutMs,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  const matter = `<${createHash('sha256').update(notice.incident).digest('hex').slice(0, 40)}@${notice.system}.guardia>`;
  const sending = transport.sendMail({
    from: { name: `guardia of ${notice.system}`, address: given(mail.from, 'mail.from') },
    to,
    subject: `[${notice.severity}] ${notice.title}`,
    text: `${notice.title}\n\n${noticeText(notice)}\n`,
    messageId: `<${id}@${notice.system}.guardia>`,
    references: [matter],
    inReplyTo: matter,
    // No out-of-office answers.
    headers: { 'Auto-Submitted': 'auto-generated', 'X-Guardia-Event': notice.event },
  });
  try {
    await Promise.race([sending, aborted(signal)]);
  } catch (error) {
    sending.catch(() => undefined);
    if (signal.aborted) throw error;
    throw smtpFailure(error);
  } finally {
    transport.close();
  }
}

async function authorities(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new DeliveryFailure(`${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'no reason'})`, {
      retry: false,
      cause: error,
    });
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const stop = (): void => reject(signal.reason as Error);
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
}

/** What the SMTP client threw. A server's answer is told in its own words: 4xx may pass, 5xx does not; so is a login that is refused. */
function smtpFailure(error: unknown): DeliveryFailure {
  const { code, responseCode, response } = error as { code?: string; responseCode?: number; response?: string };
  if (code === 'ETLS')
    return new DeliveryFailure('the mail server offers no TLS, without which nothing is sent', {
      retry: false,
      cause: error,
    });
  if (responseCode !== undefined && responseCode >= 400)
    return new DeliveryFailure(
      `the mail server ${code === 'EAUTH' ? 'refuses the login' : 'refuses the mail'}: ${(response ?? String(responseCode)).replaceAll(/\s+/g, ' ').slice(0, 200)}`,
      { retry: responseCode < 500, cause: error },
    );
  if (code === 'EAUTH')
    return new DeliveryFailure('the mail server takes no login over this connection', { retry: false, cause: error });
  const { message = '' } = error as { message?: string };
  if (/certificate|self-signed/i.test(message))
    return new DeliveryFailure(`the mail server shows no certificate to trust: ${message}`, {
      retry: false,
      cause: error,
    });
  // nodemailer puts a code of its own in place of the socket's, whose code stands in the message.
  const socketCode = /\b(E[A-Z]{4,}|EAI_AGAIN)\b/.exec(message)?.[1];
  return new DeliveryFailure(
    `the mail server ${connectionProblem(socketCode === undefined ? error : { code: socketCode })}`,
    { retry: true, cause: error },
  );
}
