// Starts a run and says which it is as soon as it is there: the API's answer comes when the run has ended.
import { api, type Schemas } from "../api/client";
import type { Run } from "../api/shapes";

const ASK_MS = 400;

interface Started {
  data: { id: string };
}

/** Returns the id of the run that was started, "" where there was nothing to do. `name`: who starts it. */
export function startRun(body: Partial<Schemas["RunRequest"]> & { env: string }, name: string): Promise<Started> {
  return started(body.env, () => api.POST("/api/v1/runs", { body }), (run) => (run.by ?? "").replace(/^person:/, "") === name);
}

/** The same of a run that tries another one again. */
export function retryRun(id: string, env: string): Promise<Started> {
  return started(env, () => api.POST("/api/v1/runs/{run}/retry", { params: { path: { run: id } }, body: {} }), (run) => run.retry_of === id);
}

async function started(env: string, send: () => Promise<{ data?: { id: string } | undefined }>, isMine: (run: Run) => boolean): Promise<Started> {
  const newest = async () => {
    const { data } = await api.GET("/api/v1/runs", { params: { query: { env, limit: 20 } } });
    return (data?.items ?? []) as unknown as Run[];
  };
  const before = new Set((await newest()).map((run) => run.id));
  let ended = false;
  const answer = send().finally(() => {
    ended = true;
  });
  answer.catch(() => undefined); // it is awaited below, or the run's own page says how it ended
  for (;;) {
    await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, ASK_MS))]);
    if (ended) return { data: { id: (await answer).data?.id ?? "" } };
    const mine = (await newest()).find((run) => !before.has(run.id) && isMine(run));
    if (mine) return { data: { id: mine.id } };
  }
}
