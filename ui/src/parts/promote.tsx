// Promotes a whole environment: all that it has of its own becomes live in another one, in one release.
import { NativeSelect } from "@mantine/core";
import { IconRocket } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useEffect } from "react";
import { api, ask } from "../api/client";
import type { Release } from "../api/shapes";
import { Action, type Asking } from "./action";
import { command } from "./command";
import { count, plural } from "./format";
import { AssetLink } from "./links";
import { Shown } from "./problem";

const SHOWN_MAX = 20;

interface Differs {
  assets: { asset: string; before: string; after: string; code_changed?: boolean; partitions?: unknown; rows_before?: number; rows_after?: number }[];
  kpis: Record<string, unknown>[];
}

export function PromoteAll({ env }: { env: string }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const others = ask.useQuery("get", "/api/v1/environments").data?.filter((one) => one.name !== env).map((one) => one.name) ?? [];
  if (!others[0]) return null;
  return (
    <Action
      spec={{
        label: "Promote an environment",
        icon: <IconRocket size={15} />,
        title: `Promote all of an environment to ${env}`,
        choice: others[0],
        decides: true,
        says: (asking) => <Changes env={env} others={others} asking={asking} />,
        command: (_, source) => command("release", "--from", source, "--env", env),
        act: (_, source) => api.POST("/api/v1/environments/{source}/promotions", { params: { path: { source } }, body: { env } }),
        done: (answer: { data?: Release[] }) => {
          void queries.invalidateQueries();
          const first = answer.data?.[0];
          if (first) void navigate({ to: "/releases/$release", params: { release: first.id } });
        },
      }}
    />
  );
}

function Changes({ env, others, asking }: { env: string; others: string[]; asking: Asking }) {
  const { choice: source, choose, allow } = asking;
  const query = ask.useQuery("get", "/api/v1/environments/{a}/diff/{b}", { params: { path: { a: env, b: source } } }, { staleTime: 0, select: (data) => data as unknown as Differs });
  const can = (query.data?.assets.length ?? 0) > 0 && !query.isFetching;
  useEffect(() => allow(can), [allow, can]);
  return (
    <>
      <p>
        All that the other environment has of its own becomes live in {env}, in one release through the gate: checks, rules and approvals say whether. What both have changed is named, and then nothing is
        moved. Where an approval is asked for, it is for exactly the versions that the release then lists.
      </p>
      <NativeSelect label="From" size="xs" data={others} value={source} onChange={(event) => choose(event.currentTarget.value)} />
      <div className="sx-preview" aria-live="polite">
        <Shown query={query}>
          {({ assets, kpis }) =>
            assets.length ? (
              <>
                <h3>Differs: {plural(assets.length, "asset")}</h3>
                <ul className="sx-moves">
                  {assets.slice(0, SHOWN_MAX).map((one) => (
                    <li key={one.asset}>
                      <AssetLink id={one.asset} />
                      <code title={one.before}>{one.before.slice(0, 8) || "nothing"}</code>
                      <span aria-label="becomes">→</span>
                      <code title={one.after}>{one.after.slice(0, 8) || "stays"}</code>
                      <span className="sx-dim">
                        {[one.code_changed && "other code", one.rows_before !== undefined && one.rows_after !== undefined && `${count(one.rows_before)} rows, then ${count(one.rows_after)}`].filter(Boolean).join(", ")}
                      </span>
                    </li>
                  ))}
                  {assets.length > SHOWN_MAX && <li className="sx-dim">and {count(assets.length - SHOWN_MAX)} more</li>}
                </ul>
                {kpis.length > 0 && <p className="sx-dim">{plural(kpis.length, "business number")} of these would move.</p>}
              </>
            ) : (
              <p className="sx-dim">
                Nothing differs between {env} and {source}.
              </p>
            )
          }
        </Shown>
      </div>
    </>
  );
}
