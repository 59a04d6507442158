import { failure } from '../contracts/errors.js';

/**
 * Docker's setting for what containers call host-gateway. Said in words, because Docker 20.10 that is restarted beside running containers gives new
 * ones an address "<nil>" for it (measured, 20.10.24).
 */
const GATEWAY = 'host-gateway-ip';

/** The address of docker0, where the file says something about it. Throws `HostUnusable` where it cannot be told. */
function gatewayOf(host: string, path: string, there: Record<string, unknown>): string | undefined {
  const { [GATEWAY]: said, bip } = there;
  if (typeof said === 'string') return said;
  if (typeof bip === 'string') return bip.replace(/\/.*/, '');
  if (there['default-address-pools'] === undefined) return undefined;
  throw failure(
    'HostUnusable',
    `${path} on ${host} has address pools of its own, and does not say which address docker0 has`,
    {
      host,
      remedy: `Add "${GATEWAY}" to it, with the address that \`ip -4 addr show docker0\` tells`,
    },
  );
}

/** The content, with the keys that only the file of the host has. Throws `HostUnusable` where that is no JSON object. */
export function withOtherKeys(host: string, path: string, text: string | undefined, content: string): string {
  const wanted = JSON.parse(content) as Record<string, unknown>;
  let now: unknown = {};
  try {
    if (text !== undefined && text.trim() !== '') now = JSON.parse(text);
  } catch {
    now = undefined;
  }
  if (typeof now !== 'object' || now === null || Array.isArray(now))
    throw failure('HostUnusable', `${path} on ${host} is not a JSON object`, {
      host,
      remedy: 'Correct it, or remove it',
    });
  const there = now as Record<string, unknown>;
  const others = Object.entries(there).filter(([key]) => !Object.hasOwn(wanted, key));
  const gateway = Object.hasOwn(wanted, GATEWAY) ? gatewayOf(host, path, there) : undefined;
  if (others.length === 0 && (gateway === undefined || gateway === wanted[GATEWAY])) return content;
  const whole = { ...Object.fromEntries(others), ...wanted, ...(gateway === undefined ? {} : { [GATEWAY]: gateway }) };
  return `${JSON.stringify(whole, null, 2)}\n`;
}
