// How something stands: a word with a sign, so that colour is never the only one.
import {
  IconAlertTriangle,
  IconArrowBackUp,
  IconCircleCheck,
  IconCircleDashed,
  IconCircleX,
  IconClock,
  IconEye,
  IconHandStop,
  IconLoader2,
  IconPencil,
  IconPlayerPause,
  IconPlayerSkipForward,
} from "@tabler/icons-react";

type Tone = "good" | "busy" | "warn" | "bad" | "calm";

const STATES: Record<string, [Tone, typeof IconClock]> = {
  live: ["good", IconCircleCheck],
  finished: ["good", IconCircleCheck],
  passed: ["good", IconCircleCheck],
  running: ["busy", IconLoader2],
  started: ["busy", IconLoader2],
  rolling: ["busy", IconLoader2],
  undoing: ["busy", IconArrowBackUp],
  proposed: ["busy", IconClock],
  gated: ["busy", IconClock],
  due: ["busy", IconClock],
  waiting: ["warn", IconHandStop],
  paused: ["warn", IconPlayerPause],
  stale: ["warn", IconClock],
  held: ["warn", IconHandStop],
  warned: ["warn", IconAlertTriangle],
  stuck: ["bad", IconAlertTriangle],
  failed: ["bad", IconCircleX],
  refused: ["bad", IconCircleX],
  rejected: ["bad", IconCircleX],
  missing: ["calm", IconCircleDashed],
  cancelled: ["calm", IconCircleX],
  rolled_back: ["calm", IconArrowBackUp],
  withdrawn: ["calm", IconArrowBackUp],
  superseded: ["calm", IconPlayerSkipForward],
  reused: ["calm", IconPlayerSkipForward],
  skipped: ["calm", IconPlayerSkipForward],
  undone: ["warn", IconArrowBackUp],
  edited: ["calm", IconPencil],
  observed: ["calm", IconEye],
};

/** How good or bad a state is: the name of its colour. */
export function toneOf(state: string): string {
  return STATES[state]?.[0] ?? "calm";
}

export function State({ state, title }: { state: string; title?: string }) {
  const [tone, Icon] = STATES[state] ?? ["calm", IconCircleDashed];
  return (
    <span className={`sx-state sx-${tone}`} title={title}>
      <Icon size={15} aria-hidden="true" />
      {state.replaceAll("_", " ")}
    </span>
  );
}
