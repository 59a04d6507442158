import type { CookieExpectation, HeaderExpectation, ProbeOf } from '../../workflows/contracts/probe.js';
import { ask, valueAt, type Answer, type Dial, type Question } from './asking.js';
import { failed, ok, worst, type Verdict } from './verdict.js';

/** Judges what an HTTP probe was answered. Pure. */
export function judgeAnswer(probe: ProbeOf<'http'>, answer: Answer): Verdict {
  const found: Verdict[] = [];
  const expect = (right: boolean, measured: string, expected: string): void =>
    void found.push(right ? ok(measured, expected) : failed(measured, expected));
  if (probe.redirect !== undefined) found.push(judgeRedirect(probe, answer));
  else expect(answer.status === probe.status, `status ${answer.status}`, `status ${probe.status}`);
  if (probe.body !== undefined)
    expect(answer.body.includes(probe.body), `the body ${excerpt(answer.body)}`, `a body with ${probe.body}`);
  for (const [path, value] of Object.entries(probe.json ?? {})) {
    const seen = jsonIn(answer.body);
    const at = seen === undefined ? undefined : valueAt(seen.value, path);
    const shown = seen === undefined ? `no JSON, but ${excerpt(answer.body)}` : `${path} ${shownValue(at)}`;
    expect(at === value, shown, `${path} ${shownValue(value)}`);
  }
  for (const [name, header] of Object.entries(probe.headers ?? {}))
    found.push(judgeHeader(name, header, answer.headers[name.toLowerCase()]));
  found.push(...judgeCookies(probe.cookies ?? {}, answer.cookies));
  if (probe.slowMilliseconds !== undefined && answer.milliseconds > probe.slowMilliseconds)
    found.push({
      state: 'warning',
      measured: `${Math.round(answer.milliseconds)} ms`,
      expected: `at most ${probe.slowMilliseconds} ms`,
    });
  const verdict = worst(found);
  return verdict.state === 'ok'
    ? { ...verdict, measured: `${verdict.measured}; ${Math.round(answer.milliseconds)} ms` }
    : verdict;
}

function judgeRedirect(probe: ProbeOf<'http'>, answer: Answer): Verdict {
  const { location } = answer.headers;
  const at = `status ${answer.status}${location === undefined ? '' : ` to ${location}`}`;
  // Without a status of its own any redirect will do.
  const allowed = probe.status === 200 ? [301, 302, 303, 307, 308] : [probe.status];
  const where = probe.redirect === 'https' ? 'https on the same host' : probe.redirect;
  const expected = `${probe.status === 200 ? 'a redirect' : `status ${probe.status}`} to ${where}`;
  if (!allowed.includes(answer.status) || location === undefined) return failed(at, expected);
  const [from, to] = [new URL(probe.url), URL.canParse(location, probe.url) ? new URL(location, probe.url) : undefined];
  const right =
    probe.redirect === 'https'
      ? to?.protocol === 'https:' && to.hostname === from.hostname
      : to?.href === new URL(probe.redirect as string).href;
  return (right ? ok : failed)(at, expected);
}

function judgeHeader(name: string, expectation: HeaderExpectation, value: string | undefined): Verdict {
  const measured = value === undefined ? `no ${name}` : `${name}: ${value}`;
  if ('present' in expectation)
    return ((value !== undefined) === expectation.present ? ok : failed)(
      measured,
      expectation.present ? `a header ${name}` : `no header ${name}`,
    );
  const [wanted, right] =
    'equals' in expectation
      ? [expectation.equals, value?.trim().toLowerCase() === expectation.equals.trim().toLowerCase()]
      : [expectation.contains, value?.toLowerCase().includes(expectation.contains.toLowerCase()) ?? false];
  return (right ? ok : failed)(measured, `${name}: ${'contains' in expectation ? '... ' : ''}${wanted}`);
}

function judgeCookies(expectations: Record<string, CookieExpectation>, set: readonly string[]): Verdict[] {
  const cookies = set.map((line) => {
    const [pair = '', ...attributes] = line.split(';').map((part) => part.trim());
    const lower = attributes.map((attribute) => attribute.toLowerCase());
    return {
      name: pair.slice(0, Math.max(0, pair.indexOf('='))),
      secure: lower.includes('secure'),
      httpOnly: lower.includes('httponly'),
      sameSite: lower.find((attribute) => attribute.startsWith('samesite='))?.slice('samesite='.length),
    };
  });
  return Object.entries(expectations).flatMap(([name, wanted]) => {
    const meant = cookies.filter((cookie) => name === '*' || cookie.name === name);
    if (meant.length === 0 && name !== '*') return [failed(`no cookie ${name}`, `a cookie ${name}`)];
    return meant.map((cookie) => {
      const missing = [
        ...(wanted.secure === undefined || wanted.secure === cookie.secure
          ? []
          : [wanted.secure ? 'Secure' : 'no Secure']),
        ...(wanted.httpOnly === undefined || wanted.httpOnly === cookie.httpOnly
          ? []
          : [wanted.httpOnly ? 'HttpOnly' : 'no HttpOnly']),
        ...(wanted.sameSite === undefined || wanted.sameSite.toLowerCase() === cookie.sameSite
          ? []
          : [`SameSite=${wanted.sameSite}`]),
      ];
      return missing.length === 0
        ? ok(`cookie ${cookie.name} as it should be`, `cookie ${name}`)
        : failed(
            `cookie ${cookie.name} without ${missing.join(', ')}`,
            `cookie ${cookie.name} with ${missing.join(', ')}`,
          );
    });
  });
}

/**
 * Sends more requests than are allowed, so that one at least is refused, and as many to each path that must never be. `atOnce`
 * connections side by side.
 */
export async function probeRateLimit(
  probe: ProbeOf<'rate-limit'>,
  question: Question,
  dial: Dial,
  signal: AbortSignal,
  atOnce: number,
): Promise<Verdict> {
  const count = async (url: string): Promise<Map<number, number>> => {
    const seen = new Map<number, number>();
    let left = probe.requests;
    const send = async (): Promise<void> => {
      while (left-- > 0) {
        const { status } = await ask({ ...question, url }, dial, signal);
        seen.set(status, (seen.get(status) ?? 0) + 1);
      }
    };
    await Promise.all(Array.from({ length: Math.min(atOnce, probe.requests) }, send));
    return seen;
  };
  const told = (seen: ReadonlyMap<number, number>): string =>
    [...seen]
      .sort(([a], [b]) => a - b)
      .map(([status, times]) => `${times} x ${status}`)
      .join(', ');
  const found: Verdict[] = [];
  // First what must not be refused: the other one uses up what is allowed.
  for (const path of probe.unlimited) {
    const seen = await count(new URL(path, probe.url).href);
    const expected = `no ${probe.refusal} from ${path}`;
    found.push((seen.has(probe.refusal) ? failed : ok)(`${path}: ${told(seen)}`, expected));
  }
  const seen = await count(probe.url);
  const expected = `at least one ${probe.refusal} among ${probe.requests} requests`;
  found.push((seen.has(probe.refusal) ? ok : failed)(told(seen), expected));
  return worst(found);
}

function jsonIn(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch {
    return undefined;
  }
}

const shownValue = (value: unknown): string => (value === undefined ? 'missing' : JSON.stringify(value).slice(0, 80));
const excerpt = (body: string): string => (body === '' ? '(empty)' : JSON.stringify(body.slice(0, 80)));
