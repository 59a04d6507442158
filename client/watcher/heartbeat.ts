import { DeliveryFailure, tryWithin, type Bounds } from '../../activities/notify/attempt.js';
import { connectionProblem, webAddress } from '../../activities/notify/http-post.js';

const BOUNDS: Bounds = { attemptMs: 10_000, targetMs: 25_000, attempts: 2, pauseMs: 2_000 };

/**
 * Tells a dead-man switch that the watcher is alive: a GET of its URL, or a POST of the trouble to the URL with `/fail` behind its path, as
 * healthchecks.io has it. Throws DeliveryFailure, which does not name the URL.
 */
export async function beat(address: string, trouble: string | undefined, bounds: Bounds = BOUNDS): Promise<void> {
  const url = webAddress(address);
  if (trouble !== undefined) url.pathname = `${url.pathname.replace(/\/+$/, '')}/fail`;
  await tryWithin(
    bounds,
    undefined,
    () => undefined,
    async (signal) => {
      const request: RequestInit =
        trouble === undefined ? { method: 'GET' } : { method: 'POST', body: trouble.slice(0, 10_000) };
      const response = await fetch(url, {
        ...request,
        redirect: 'manual',
        headers: { 'user-agent': 'guardia' },
        signal,
      }).catch((error: unknown) => {
        if (signal.aborted) throw error;
        throw new DeliveryFailure(connectionProblem(error), { retry: true, cause: error });
      });
      await response.body?.cancel().catch(() => undefined);
      if (!response.ok) throw new DeliveryFailure(`answers ${response.status}`, { retry: response.status >= 500 });
    },
  );
}
