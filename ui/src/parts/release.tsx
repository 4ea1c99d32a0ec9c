// What can be done to a release, in the state in which it is shown.
import { IconArrowBackUp, IconCheck, IconPlayerPause, IconPlayerPlay, IconX } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { api, ask } from "../api/client";
import type { Move, Release, ReleaseFacts } from "../api/shapes";
import { Action, type ActionSpec } from "./action";
import { command } from "./command";
import { count, plural, who } from "./format";
import { AssetLink } from "./links";
import { envOf } from "./lists";
import { UndoPreview } from "./undo";

const ICON = 15;

export function Needs({ release }: { release: Release }) {
  if (!release.needs?.length) return null;
  return (
    <ul className="sx-needs">
      {release.needs.map((need) => (
        <li key={`${need.of ?? ""} ${need.count}`}>
          {count(need.by?.length ?? 0)} of {plural(need.count, "approval")}
          {need.of ? ` of ${need.of}` : ""}
          {need.by?.length ? `: ${need.by.map(who).join(", ")}` : ""}
        </li>
      ))}
    </ul>
  );
}

export function MoveList({ moves, most = 12 }: { moves: Move[]; most?: number }) {
  return (
    <ul className="sx-moves">
      {moves.slice(0, most).map((move) => (
        <li key={`${move.env} ${move.asset}`}>
          <AssetLink id={move.asset} />
          <code title={move.source}>{move.source.slice(0, 8) || "nothing"}</code>
          <span aria-label="becomes">→</span>
          <code title={move.target}>{move.target.slice(0, 8) || "nothing"}</code>
        </li>
      ))}
      {moves.length > most && <li className="sx-dim">and {count(moves.length - most)} more</li>}
    </ul>
  );
}

function useSpecs(release: Release, plan: string): ActionSpec[] {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const path = { params: { path: { release: release.id } } };
  const again = () => void queries.invalidateQueries();
  const verb = (
    one: "pause" | "continue" | "abort",
    spec: Pick<ActionSpec, "label" | "icon" | "title" | "says"> & { danger?: boolean },
  ): ActionSpec => ({
    ...spec,
    reason: "required",
    command: (reason) => command("releases", release.id, `--${one}`, reason),
    act: (reason) => api.POST(`/api/v1/releases/{release}/${one}`, { ...path, body: { reason } }),
    done: again,
  });
  const decide = (deny: boolean): ActionSpec => ({
    label: deny ? "Deny" : "Approve",
    icon: deny ? <IconX size={ICON} /> : <IconCheck size={ICON} />,
    danger: deny,
    primary: !deny,
    title: `${deny ? "Deny" : "Approve"} this ${release.intent === "undo" ? "undo" : "release"}`,
    says: (
      <>
        <p>
          {deny
            ? `It ends here, and what is live in ${envOf(release)} stays.`
            : `Your approval is for exactly this: ${plural(release.moves.length, "asset")} in ${envOf(release)}. If it has changed since, nothing happens.`}
        </p>
        <MoveList moves={release.moves} />
      </>
    ),
    reason: deny ? "required" : "optional",
    command: (reason) => command("approve", release.id, deny && "--deny", reason !== "REASON" && "--reason", reason !== "REASON" && reason, "--plan", plan || "DIGEST"),
    act: async (reason) => {
      // bound to what is shown: the digest of the release as it was read for this page
      return api.POST("/api/v1/releases/{release}/approvals", { ...path, body: { deny, reason, plan } });
    },
    done: again,
  });
  const pause = verb("pause", {
    label: "Pause",
    icon: <IconPlayerPause size={ICON} />,
    title: "Pause this roll-out",
    says: "It stays at the step that it has reached until somebody lets it go on.",
  });
  const go = verb("continue", {
    label: "Continue",
    icon: <IconPlayerPlay size={ICON} />,
    title: "Let this release go on",
    says: "It goes on from the step that it has reached.",
  });
  const abort = verb("abort", {
    label: "Abort",
    icon: <IconX size={ICON} />,
    danger: true,
    title: "Take this release back",
    says: "Its version is withdrawn, and what was rolled out is undone.",
  });
  const first = release.moves[0];
  const undo: ActionSpec | undefined = first && {
    label: "Undo",
    icon: <IconArrowBackUp size={ICON} />,
    danger: true,
    title: "Undo this release",
    decides: true,
    says: ({ allow }) => (
      <>
        <p>
          Only what it changed goes back, what was derived from it follows in the same release, and it stays undone: the withdrawn
          version is not chosen again.
        </p>
        <UndoPreview id={first.asset} env={first.env} version={first.target} allow={allow} />
      </>
    ),
    reason: "required",
    command: (reason) => command("rollback", first.asset, first.target, "--env", first.env, "--reason", reason),
    act: (reason) =>
      api.POST("/api/v1/assets/{asset}/rollbacks", {
        params: { path: { asset: first.asset } },
        body: { version: first.target, reason, env: first.env },
      }),
    done: (answer: { data?: { release?: string } }) => {
      again();
      if (answer.data?.release) void navigate({ to: "/releases/$release", params: { release: answer.data.release } });
    },
  };
  switch (release.state) {
    case "waiting":
      return [decide(false), decide(true)];
    case "rolling":
      return [pause, abort];
    case "paused":
    case "stuck":
      return [go, abort];
    case "live":
      return release.intent !== "undo" && undo && first?.target ? [undo] : [];
    default:
      return [];
  }
}

/** The actions. `plan` names what is shown; without it the release is asked for, so that an approval is bound to it. */
export function ReleaseActions({ release, plan }: { release: Release; plan?: string }) {
  const asks = plan === undefined && release.state === "waiting";
  const facts = ask.useQuery(
    "get",
    "/api/v1/releases/{release}",
    { params: { path: { release: release.id } } },
    { enabled: asks, select: (data) => data as unknown as ReleaseFacts },
  ).data;
  const specs = useSpecs(asks && facts ? facts : release, plan ?? facts?.plan ?? "");
  if (asks && !facts) return null;
  return (
    <div className="sx-actions">
      {specs.map((spec) => (
        <Action key={spec.label} spec={spec} />
      ))}
    </div>
  );
}
