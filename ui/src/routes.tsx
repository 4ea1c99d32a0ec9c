// The pages and their addresses. A page's filters are in its address, so that a link shows what one sees.
import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  retainSearchParams,
} from "@tanstack/react-router";
import type { ComponentType } from "react";
import { Missing } from "./frame/missing";
import { Shell } from "./frame/shell";
import { Empty, Problem } from "./parts/problem";

/** Loads a page. A part that does not arrive is no reason to load everything anew: the server may be dead. */
function page(load: () => Promise<{ default: ComponentType }>) {
  return lazyRouteComponent(() => load().catch(() => ({ default: Missing })));
}

type Search = Record<string, unknown>;

/** Returns the texts of some search parameters; others, and what is no text, are left out. */
function texts<K extends string>(search: Search, ...names: K[]): { [N in K]?: string } {
  const found: { [N in K]?: string } = {};
  for (const name of names) {
    const value = search[name];
    if (typeof value === "string" && value) found[name] = value;
    else if (typeof value === "number" || typeof value === "boolean") found[name] = String(value);
  }
  return found;
}

const GRAPH = ["kind", "owner", "tag", "state", "group", "asset", "up", "down", "to", "view", "column"] as const;

const root = createRootRoute({
  component: Shell,
  validateSearch: (search: Search) => texts(search, "env"),
  search: { middlewares: [retainSearchParams(["env"])] },
  notFoundComponent: () => <Empty title="There is no such page.">The navigation leads to those that there are.</Empty>,
  errorComponent: ({ error }) => <Problem error={error as Error} />,
});

const start = createRoute({
  getParentRoute: () => root,
  path: "/",
  component: page(() => import("./pages/bridge")),
});

const assets = createRoute({
  getParentRoute: () => root,
  path: "/assets",
  validateSearch: (search: Search) => texts(search, "q", "kind", "owner", "tag", "state"),
  component: page(() => import("./pages/assets")),
});

const asset = createRoute({
  getParentRoute: () => root,
  path: "/assets/$asset",
  validateSearch: (search: Search) => texts(search, "tab"),
  component: page(() => import("./pages/asset")),
});

const kpis = createRoute({
  getParentRoute: () => root,
  path: "/kpis",
  validateSearch: (search: Search) => texts(search, "q"),
  component: page(() => import("./pages/kpis")),
});

const kpi = createRoute({
  getParentRoute: () => root,
  path: "/kpis/$name",
  validateSearch: (search: Search) => texts(search, "grain", "since", "until", "from", "to", "compare", "sum", "split"),
  component: page(() => import("./pages/kpi")),
});

const runs = createRoute({
  getParentRoute: () => root,
  path: "/runs",
  validateSearch: (search: Search) => texts(search, "q", "state"),
  component: page(() => import("./pages/runs")),
});

const run = createRoute({
  getParentRoute: () => root,
  path: "/runs/$run",
  validateSearch: (search: Search) => texts(search, "step"),
  component: page(() => import("./pages/run")),
});

const releases = createRoute({
  getParentRoute: () => root,
  path: "/releases",
  validateSearch: (search: Search) => texts(search, "q", "state"),
  component: page(() => import("./pages/releases")),
});

const release = createRoute({
  getParentRoute: () => root,
  path: "/releases/$release",
  component: page(() => import("./pages/release")),
});

const graph = createRoute({
  getParentRoute: () => root,
  path: "/graph",
  validateSearch: (search: Search): { [name in (typeof GRAPH)[number]]?: string } & { opened?: string[] } => ({
    ...texts(search, ...GRAPH),
    ...(Array.isArray(search.opened) ? { opened: search.opened.filter((one) => typeof one === "string").slice(0, 20) } : {}),
  }),
  component: page(() => import("./pages/graph")),
});

const plan = createRoute({
  getParentRoute: () => root,
  path: "/plan",
  validateSearch: (search: Search) => texts(search, "select", "partition", "stale", "only", "pinned"),
  component: page(() => import("./pages/plan")),
});

const sessions = createRoute({
  getParentRoute: () => root,
  path: "/sessions",
  component: page(() => import("./pages/sessions")),
});

export const router = createRouter({
  routeTree: root.addChildren([start, kpis, kpi, assets, asset, graph, plan, runs, run, releases, release, sessions]),
  defaultPreload: "intent",
  defaultPendingMs: 300,
  scrollRestoration: false,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
