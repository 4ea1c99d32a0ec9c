// Lists that come in pages: the pages that were asked for, as one list, whole again when something changes.
import { type InfiniteData, useInfiniteQuery } from "@tanstack/react-query";
import { api } from "./client";

type ListPath = "/api/v1/runs" | "/api/v1/releases" | "/api/v1/checks" | "/api/v1/assets/{asset}/versions" | "/api/v1/assets/{asset}/timeline";

const LIMIT = 200;

/**
 * Keeps an answer on the page while the next one is on its way, where both are about the same: these parameters. What
 * is known of one asset never stands below the name of another.
 */
export function kept(about: Record<string, string>) {
  return <T>(before: T | undefined, question?: { queryKey: readonly unknown[] }): T | undefined => {
    const { params } = (question?.queryKey[2] ?? {}) as { params?: { path?: Record<string, unknown>; query?: Record<string, unknown> } };
    const was: Record<string, unknown> = { ...params?.query, ...params?.path };
    return Object.entries(about).every(([name, value]) => was[name] === value) ? before : undefined;
  };
}

interface Page<T> {
  items: T[];
  next: string;
}

/** Asks for a list of the API, page by page. The rows are typed by the caller: the API's description has objects. */
export function usePages<T>(path: ListPath, query: Record<string, string | boolean>, enabled = true, asset = "") {
  return useInfiniteQuery({
    queryKey: ["get", path, query, asset],
    enabled,
    placeholderData: (before: InfiniteData<Page<T>> | undefined, question) => (question?.queryKey[3] === asset && (question.queryKey[2] as { env?: string }).env === query["env"] ? before : undefined),
    initialPageParam: "",
    queryFn: async ({ pageParam, signal }) => {
      const asked = { ...query, limit: LIMIT, after: pageParam };
      const { data } = await api.GET(path, { params: { path: { asset } as never, query: asked as never }, signal });
      return data as unknown as Page<T>;
    },
    getNextPageParam: (last) => last.next || undefined,
    select: (data) => data.pages.flatMap((page) => page.items),
  });
}
