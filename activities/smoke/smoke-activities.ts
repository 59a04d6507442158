import { cancellationSignal, heartbeat } from '@temporalio/activity';
import { z } from 'zod';
import type { CallInput } from '../../workflows/contracts/calls.js';
import { SmokeCall } from '../../workflows/contracts/deployment.js';
import { failure } from '../../workflows/contracts/errors.js';
import { given, isUnset } from '../../workflows/contracts/unset.js';
import { targetOf } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import type { Secrets } from '../secrets/resolve.js';

const RunSmokeTest = z.object({
  calls: z.array(SmokeCall).min(1),
  secondsEach: z.int().min(1).max(120).default(15),
});

/** Shows that an application works by using it: calls over HTTP, one after the other, from its own host. */
export function createSmokeActivities({ hosts, secrets }: { hosts: Hosts; secrets: Secrets }) {
  const bodyOf = async (
    json: NonNullable<SmokeCall['json']>,
    kept: Readonly<Record<string, string>>,
  ): Promise<Record<string, unknown>> => {
    const values = Object.entries(json).map(async ([name, value]): Promise<[string, unknown]> => {
      if (typeof value === 'string') return [name, filled(value, kept)];
      if (typeof value !== 'object') return [name, value];
      if (isUnset(value)) return [name, given(value, name)];
      return [name, (await secrets.resolve(given(value.secret, name))).reveal()];
    });
    return Object.fromEntries(await Promise.all(values));
  };
  return {
    /**
     * Makes the calls of a smoke test on the host itself. What one keeps from its answer, the next ones can send; neither that nor a secret
     * leaves the activity. A retry makes all of them again: they must bear that. Throws `VerificationFailed` that names the call.
     */
    async runSmokeTest({ with: raw, context }: CallInput) {
      const { calls, secondsEach } = RunSmokeTest.parse(raw);
      const host = targetOf(context);
      const kept: Record<string, string> = {};
      for (const call of calls) {
        heartbeat({ call: call.title });
        const body = call.json && (await bodyOf(call.json, kept));
        const { exitCode, stdout, stderr } = await hosts.run(
          host,
          {
            // The request comes by standard input: it may hold a password or a token.
            argv: [
              'curl',
              '--config',
              '-',
              '--silent',
              '--show-error',
              '--max-time',
              String(secondsEach),
              '--write-out',
              '\\n%{http_code}',
            ],
            stdin: Buffer.from(
              curlConfiguration({
                method: call.method,
                url: filled(call.url, kept),
                headers: {
                  ...(body ? { 'content-type': 'application/json' } : {}),
                  ...Object.fromEntries(
                    Object.entries(call.headers).map(([name, value]) => [name, filled(value, kept)]),
                  ),
                },
                ...(body ? { body: JSON.stringify(body) } : {}),
              }),
            ),
            timeoutSeconds: secondsEach + 10,
            okCodes: Array.from({ length: 100 }, (_, code) => code),
          },
          { signal: cancellationSignal() },
        );
        const found = judge(call, exitCode === 0 ? stdout : undefined, stderr);
        if ('problem' in found)
          throw failure('VerificationFailed', `${host.name}: "${call.title}" did not work: ${found.problem}`, {
            host: host.name,
            step: context.step,
            remedy: "Look into the application's log on the host",
          });
        Object.assign(kept, found.kept);
      }
      return { summary: `${calls.length} calls answered well` };
    },
  };
}

/** Puts what earlier calls have kept into a text. Pure. */
export const filled = (text: string, kept: Readonly<Record<string, string>>): string =>
  text.replaceAll(/\{([A-Za-z_][A-Za-z0-9_]*)\}/g, (whole, name: string) => kept[name] ?? whole);

/** A request as curl reads it from a file. Pure. */
export function curlConfiguration(request: {
  method: string;
  url: string;
  headers: Record<string, string>;
  body?: string;
}): string {
  const line = (option: string, value: string): string =>
    `${option} = "${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n').replaceAll('\r', '\\r').replaceAll('\t', '\\t')}"\n`;
  return [
    line('request', request.method),
    line('url', request.url),
    ...Object.entries(request.headers).map(([name, value]) => line('header', `${name}: ${value}`)),
    ...(request.body === undefined ? [] : [line('data-raw', request.body)]),
  ].join('');
}

/** Whether an answer (body, newline, status) is what the call expects, and what it keeps. Says no word of the body: it may hold a token. Pure. */
export function judge(
  call: SmokeCall,
  answer: string | undefined,
  said: string,
): { problem: string } | { kept: Record<string, string> } {
  if (answer === undefined) return { problem: said.trim().split('\n').at(-1) || 'no answer' };
  const end = answer.lastIndexOf('\n');
  const status = Number(answer.slice(end + 1));
  if (status !== call.status) return { problem: `it was answered with status ${status}, not ${call.status}` };
  const paths = [...Object.keys(call.expect), ...Object.values(call.keep)];
  if (paths.length === 0) return { kept: {} };
  let body: unknown;
  try {
    body = JSON.parse(answer.slice(0, end));
  } catch {
    return { problem: 'the answer is not JSON' };
  }
  for (const [path, expected] of Object.entries(call.expect)) {
    const found = at(body, path);
    if (found !== expected)
      return {
        problem: `${path} of the answer is ${found === undefined ? 'missing' : 'another value'}, not ${JSON.stringify(expected)}`,
      };
  }
  const kept: Record<string, string> = {};
  for (const [name, path] of Object.entries(call.keep)) {
    const found = at(body, path);
    if (typeof found !== 'string' && typeof found !== 'number') return { problem: `${path} is missing in the answer` };
    kept[name] = String(found);
  }
  return { kept };
}

function at(value: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((found, part) => {
    if (typeof found !== 'object' || found === null || !Object.hasOwn(found, part)) return undefined;
    return (found as Record<string, unknown>)[part];
  }, value);
}
