// Answers that the API's description types as objects: what the page reads of them. A field with its default is left out.

import type { Schemas } from "./client";

export interface Need {
  count: number;
  of?: string;
  by?: string[];
}

export interface Move {
  env: string;
  asset: string;
  source: string;
  target: string;
}

export interface Release {
  id: string;
  state: string;
  moves: Move[];
  intent?: string;
  strategy?: { kind: string; steps?: number[]; step_s?: number };
  step?: number;
  run?: string;
  undoes?: string;
  reason?: string;
  by?: string;
  needs?: Need[];
  approvals?: string[];
  broke_glass?: string;
  passed?: string[];
  after?: string;
  due_at?: number;
  error?: string;
  errors?: number;
  evidence?: Record<string, unknown>;
  created_at: number;
  changed_at: number;
}

export interface EventSeen {
  seq: number;
  id: string;
  type: string;
  at: string;
  actor: string;
  subject: string;
  cause: string;
  data: unknown;
}

export interface ReleaseFacts extends Release {
  plan: string;
  events: EventSeen[];
}

export interface Run {
  id: string;
  env: string;
  state: string;
  trigger?: string;
  by?: string;
  assets?: string[];
  partitions?: string;
  steps?: number;
  computed?: number;
  reused?: number;
  failed?: number;
  rows?: number;
  wall_s?: number;
  error?: string;
  started_at?: number;
  finished_at?: number;
  retry_of?: string;
  progress?: Schemas["RunProgress"]; // of one that goes on, or that is shown by itself
}

export interface Step {
  kind: "start" | "end" | "reuse" | "skip";
  step: string;
  attempt?: number;
  at?: number;
  started_at?: number;
  ok?: boolean;
  rows?: number;
  asset?: string;
  owner?: string;
  log?: string;
  error_code?: string;
  error?: string;
  hint?: string;
  where?: string;
  resources?: { wall_s?: number; cpu_s?: number; memory_bytes_peak?: number; bytes_read?: number; bytes_written?: number };
  why?: string[];
  code?: string;
}

export interface Check {
  name: string;
  asset: string;
  partition?: string;
  severity?: string;
  ok: boolean;
  failed?: number;
  rows?: number;
  message?: string;
  samples?: string;
  run?: string;
  version?: string;
}

export interface RunFacts extends Run {
  steps_recorded: Step[];
  checks: Check[];
  retries: string[];
  seal_ok: boolean;
}

export interface AssetFacts {
  asset: string;
  owner: string;
  tier: number;
  mode: string;
  description: string;
  tags: string[];
  file: string;
  checks: { name: string; severity: string; scope: string }[];
  inputs: string[];
  reports?: EventSeen[];
  version?: string;
  created_at?: string;
  run?: string;
  rows?: number;
  size_bytes?: number;
  partitions?: number;
  schema?: [string, string][];
  key?: string[];
  time?: string;
  personal?: string[];
  sample?: Record<string, unknown>[];
  measure?: Record<string, unknown>;
}
