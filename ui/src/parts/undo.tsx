// Undo, which shows before it is done what goes back, what is made again at what cost, what is in the way, and what the
// rules say.
import { NativeSelect } from "@mantine/core";
import { IconArrowBackUp } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { api, ask, type Schemas } from "../api/client";
import { Action, type Asking } from "./action";
import { command } from "./command";
import { count, nameOf, plural, who } from "./format";
import { AssetLink, Facts, ReleaseLink } from "./links";
import { Shown } from "./problem";
import { length, Time } from "./time";

const SHOWN_MAX = 12;

/** What an undo would do. `allow` hears whether it can be done. */
export function UndoPreview({ id, env, version, allow }: { id: string; env: string; version: string; allow: (can: boolean) => void }) {
  const query = ask.useQuery("get", "/api/v1/assets/{asset}/rollbacks", { params: { path: { asset: id }, query: { env, version } } }, { staleTime: 0 });
  const can = query.data !== undefined && !query.data.problem && query.data.verdict !== "deny";
  useEffect(() => allow(can), [allow, can]);
  return (
    <div className="sx-preview" aria-live="polite">
      <Shown query={query}>{(plan) => <Preview plan={plan} />}</Shown>
    </div>
  );
}

function Preview({ plan }: { plan: Schemas["RollbackPlan"] }) {
  if (plan.problem)
    return (
      <div className="sx-problem" role="alert">
        <div>
          <strong dir="auto">{plan.problem}</strong>
          <p dir="auto">
            {plan.hint} {plan.code && <span className="sx-dim">({plan.code})</span>}
          </p>
        </div>
      </div>
    );
  const back = plan.taken_back ?? [];
  const again = plan.made_again ?? [];
  const known = again.filter((one) => one.seconds !== null && one.seconds !== undefined).reduce((all, one) => all + (one.seconds ?? 0), 0);
  const unknown = again.some((one) => one.seconds === null);
  return (
    <>
      <Facts
        facts={[
          [
            "Undoes",
            <span key="release">
              <ReleaseLink id={plan.release} /> of {who(plan.by)}, <Time at={plan.at} />
            </span>,
          ],
          ...(plan.reason ? ([["Made because", plan.reason]] as [string, string][]) : []),
          ...(plan.aborts ? ([["It is", "rolled out now, and would be aborted"]] as [string, string][]) : []),
          ["The rules", plan.verdict === "deny" ? "deny it" : "allow it"],
          ...(plan.reasons?.length ? ([["They say", plan.reasons.join("; ")]] as [string, string][]) : []),
        ]}
      />
      <h3>Goes back: {plural(back.length, "asset")}</h3>
      <ul className="sx-moves">
        {back.slice(0, SHOWN_MAX).map((one) => (
          <li key={one.asset}>
            <AssetLink id={one.asset} />
            <code title={one.version}>{one.version.slice(0, 8)}</code>
            <span aria-label="becomes">→</span>
            <code title={one.before}>{one.before?.slice(0, 8) || "nothing"}</code>
            <span className="sx-dim" title={one.partitions?.join(", ")}>
              {[one.restored && `${plural(one.restored, "partition")} as before`, one.removed && `${plural(one.removed, "partition")} gone`].filter(Boolean).join(", ")}
            </span>
          </li>
        ))}
        {back.length > SHOWN_MAX && <li className="sx-dim">and {count(back.length - SHOWN_MAX)} more</li>}
      </ul>
      <h3>
        Is made again: {again.length ? `${plural(again.length, "asset")}, ${unknown ? "nobody knows how long it takes" : known ? `about ${length(known)} of work` : "all of it kept from before"}` : "nothing"}
      </h3>
      {again.length > 0 && (
        <ul className="sx-moves">
          {again.slice(0, SHOWN_MAX).map((one) => (
            <li key={one.asset}>
              <AssetLink id={one.asset} />
              <span className="sx-dim">
                {plural(one.partitions ?? 0, "partition")}
                {one.reused ? `, ${count(one.reused)} of them kept from before` : ""}
                {one.seconds === null ? ", never timed" : one.seconds ? `, ${length(one.seconds)}` : ""}
              </span>
            </li>
          ))}
          {again.length > SHOWN_MAX && <li className="sx-dim">and {count(again.length - SHOWN_MAX)} more</li>}
        </ul>
      )}
    </>
  );
}

/** Undoes the release of an asset's version: the last one, or one that is chosen. */
export function Undo({ id, env }: { id: string; env: string }) {
  const queries = useQueryClient();
  return (
    <Action
      spec={{
        label: "Undo",
        icon: <IconArrowBackUp size={15} />,
        danger: true,
        title: `Undo a release of ${nameOf(id)} in ${env}`,
        decides: true,
        says: (asking) => <Which id={id} env={env} asking={asking} />,
        reason: "required",
        command: (reason, version) => command("rollback", id, version.slice(0, 12), "--env", env, "--reason", reason),
        act: (reason, version) => api.POST("/api/v1/assets/{asset}/rollbacks", { params: { path: { asset: id } }, body: { reason, env, version } }),
        done: () => void queries.invalidateQueries(),
      }}
    />
  );
}

function Which({ id, env, asking }: { id: string; env: string; asking: Asking }) {
  const versions = ask.useQuery("get", "/api/v1/assets/{asset}/versions", { params: { path: { asset: id }, query: { env, limit: 50 } } });
  const choices = versions.data?.items.filter((one) => !one.state.startsWith("withdrawn") && one.state !== "refused") ?? [];
  return (
    <>
      <p>Only what that release changed goes back, what was derived follows in the same release, and it stays undone.</p>
      <NativeSelect
        label="Which"
        size="xs"
        data={[
          { value: "", label: "the last release" },
          ...choices.map((one) => ({
            value: one.version,
            label: `${one.version.slice(0, 8)}, made ${one.created_at.slice(0, 16).replace("T", " ")}${one.changed.length ? `: ${one.changed.slice(0, 3).join(", ")}` : ""}`,
          })),
        ]}
        value={asking.choice}
        onChange={(event) => asking.choose(event.currentTarget.value)}
      />
      <UndoPreview id={id} env={env} version={asking.choice} allow={asking.allow} />
    </>
  );
}
