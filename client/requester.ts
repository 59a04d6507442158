import { hostname, userInfo } from 'node:os';

/** Who asks, where nobody says otherwise: user@host. */
export function requesterHere(): string {
  try {
    return `${userInfo().username}@${hostname()}`;
  } catch {
    return `uid ${process.getuid?.()}@${hostname()}`;
  }
}
