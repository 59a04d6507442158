import { DeliveryFailure } from './attempt.js';

/** How much of an answer is read. Bytes. */
const ANSWER_BYTES = 4096;

/**
 * Posts JSON. Follows no redirect: what is sent is meant for this address and no other.
 * Throws DeliveryFailure without a word of the address, which may be a secret, for every answer but 2xx; aborting `signal` throws what fetch throws.
 */
export async function postJson(
  address: string,
  body: string,
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<void> {
  const url = webAddress(address);
  let response: Response;
  try {
    response = await fetch(url, {
      method: 'POST',
      redirect: 'manual',
      headers: { 'content-type': 'application/json', 'user-agent': 'guardia', ...headers },
      body,
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new DeliveryFailure(connectionProblem(error), { retry: true, cause: error });
  }
  const answer = await beginning(response).catch(() => '');
  const { status } = response;
  if (status >= 200 && status < 300) return;
  if (status >= 300 && status < 400)
    throw new DeliveryFailure(`answers with a redirect (${status}), which is not followed: correct the address`, {
      retry: false,
    });
  const said = withoutParts(url, answer).replaceAll(/\s+/g, ' ').trim().slice(0, 200);
  throw new DeliveryFailure(`answers ${status}${said === '' ? '' : `: ${said}`}`, {
    retry: status >= 500 || status === 429 || status === 408,
    afterMs: secondsToWait(response.headers.get('retry-after')),
  });
}

/** Throws DeliveryFailure for what is no address, without repeating it. */
export function webAddress(text: string): URL {
  let url: URL | undefined;
  try {
    url = new URL(text);
  } catch {
    // said below
  }
  if (url === undefined || !['http:', 'https:'].includes(url.protocol))
    throw new DeliveryFailure('its address is no URL that starts with https:// or http://', { retry: false });
  return url;
}

/** What the target says, without the parts of its address, among which its token is. */
function withoutParts(url: URL, text: string): string {
  const parts = [...url.pathname.split('/'), ...url.searchParams.values(), url.username, url.password];
  return parts.filter((part) => part.length >= 6).reduce((rest, part) => rest.replaceAll(part, '[...]'), text);
}

/** What went wrong below HTTP, by its code: the messages of the library hold addresses. */
export function connectionProblem(error: unknown): string {
  for (let at = error as NodeJS.ErrnoException | undefined; at; at = at.cause as NodeJS.ErrnoException | undefined)
    if (typeof at.code === 'string') return PROBLEMS[at.code] ?? `cannot be reached (${at.code})`;
  return 'cannot be reached';
}

const PROBLEMS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'refuses the connection: nothing listens there',
  ECONNRESET: 'broke the connection off',
  UND_ERR_SOCKET: 'broke the connection off',
  ENOTFOUND: 'cannot be reached: the host name is unknown',
  EAI_AGAIN: 'cannot be reached: the host name cannot be looked up now',
  EHOSTUNREACH: 'cannot be reached: no route to the host',
  ENETUNREACH: 'cannot be reached: no route to the network',
  ETIMEDOUT: 'does not answer',
  CERT_HAS_EXPIRED: 'shows a certificate that has expired',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'shows a certificate that nobody vouches for',
  SELF_SIGNED_CERT_IN_CHAIN: 'shows a certificate of an unknown authority',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'shows a certificate of an unknown authority',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'shows a certificate of an unknown authority',
  ERR_TLS_CERT_ALTNAME_INVALID: 'shows a certificate of another name',
};

async function beginning(response: Response): Promise<string> {
  const reader = (response.body as ReadableStream<Uint8Array> | null)?.getReader();
  if (reader === undefined) return '';
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    while (bytes < ANSWER_BYTES) {
      const { done, value } = await reader.read();
      if (done) break;
      chunks.push(value);
      bytes += value.length;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
  return Buffer.concat(chunks).subarray(0, ANSWER_BYTES).toString('utf8');
}

function secondsToWait(header: string | null): number | undefined {
  return header !== null && /^\d{1,5}$/.test(header) ? Number(header) * 1000 : undefined;
}
