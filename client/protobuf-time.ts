/** A protobuf Timestamp or Duration as the client library gives it. */
interface Moment {
  seconds?: unknown;
  nanos?: number | null;
}

/** Milliseconds of a protobuf Timestamp (since 1970) or Duration; undefined when there is none. */
export function millisecondsOf(moment: Moment | null | undefined): number | undefined {
  if (moment === null || moment === undefined) return undefined;
  return Number(moment.seconds ?? 0) * 1000 + Math.floor((moment.nanos ?? 0) / 1e6);
}
