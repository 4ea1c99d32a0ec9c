// Starts a run and says which it is as soon as it is there: the API's answer comes when the run has ended.
import { api, type Schemas } from "../api/client";
import type { Run } from "../api/shapes";

const ASK_MS = 400;

/** Returns the id of the run that was started, "" where there was nothing to do. `name`: who starts it. */
export async function startRun(body: Partial<Schemas["RunRequest"]> & { env: string }, name: string): Promise<{ data: { id: string } }> {
  const newest = async () => {
    const { data } = await api.GET("/api/v1/runs", { params: { query: { env: body.env, limit: 20 } } });
    return (data?.items ?? []) as unknown as Run[];
  };
  const before = new Set((await newest()).map((run) => run.id));
  let ended = false;
  const answer = api.POST("/api/v1/runs", { body }).finally(() => {
    ended = true;
  });
  answer.catch(() => undefined); // it is awaited below, or the run's own page says how it ended
  for (;;) {
    await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, ASK_MS))]);
    if (ended) return { data: { id: (await answer).data?.id ?? "" } };
    const mine = (await newest()).find((run) => !before.has(run.id) && (run.by ?? "").replace(/^person:/, "") === name);
    if (mine) return { data: { id: mine.id } };
  }
}
