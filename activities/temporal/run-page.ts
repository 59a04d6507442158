/** The page of a run in Temporal's Web UI, without a run id that of its newest run. `webUi` is the address without a slash at its end. Pure. */
export function runPageUrl(
  webUi: string,
  namespace: string,
  run: { workflowId: string; runId?: string | undefined },
): string {
  const workflow = `${webUi}/namespaces/${namespace}/workflows/${encodeURIComponent(run.workflowId)}`;
  return run.runId === undefined ? workflow : `${workflow}/${run.runId}/history`;
}
