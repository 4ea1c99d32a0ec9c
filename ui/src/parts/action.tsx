// An action: a button that says what will happen before it does, with the command that does the same. Who may not act
// is not offered it; the server decides in any case.
import { Button, Textarea } from "@mantine/core";
import { type ReactNode, useState } from "react";
import { useSession } from "../frame/session";
import { Lines } from "./command";
import { Dialog } from "./dialog";
import { Problem } from "./problem";

export interface ActionSpec {
  label: string;
  icon?: ReactNode;
  danger?: boolean;
  primary?: boolean;
  role?: "viewer" | "operator" | "admin";
  title: string;
  says: ReactNode | ((allow: (can: boolean) => void) => ReactNode); // what will happen; it may say that it cannot be
  reason?: "required" | "optional";
  command: (reason: string) => string;
  act: (reason: string) => Promise<unknown>;
  done?: (answer: never) => void;
}

export function Action({ spec }: { spec: ActionSpec }) {
  const { may } = useSession();
  const [open, setOpen] = useState(false);
  if (!may(spec.role ?? "operator")) return null;
  return (
    <>
      <Button
        size="compact-sm"
        variant={spec.primary ? "filled" : "default"}
        className={spec.danger ? "sx-danger" : ""}
        leftSection={spec.icon}
        onClick={() => setOpen(true)}
      >
        {spec.label}
      </Button>
      {open && <ActionDialog spec={spec} onClose={() => setOpen(false)} />}
    </>
  );
}

export function ActionDialog({ spec, onClose }: { spec: ActionSpec; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const [error, setError] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const [can, allow] = useState(typeof spec.says !== "function");
  const lacks = !can || (spec.reason === "required" && !reason.trim());

  const act = async () => {
    setBusy(true);
    setError(null);
    try {
      const answer = await spec.act(reason.trim());
      onClose();
      spec.done?.(answer as never);
    } catch (failed) {
      setError(failed as Error);
    } finally {
      setBusy(false);
    }
  };

  return (
    <Dialog title={spec.title} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!lacks) void act();
        }}
      >
        <div className="sx-says">{typeof spec.says === "function" ? spec.says(allow) : spec.says}</div>
        {spec.reason && (
          <Textarea
            label="Reason"
            description="It stands in the ledger, for everybody to read."
            autosize={false}
            rows={2}
            data-autofocus
            maxLength={4000}
            required={spec.reason === "required"}
            value={reason}
            onChange={(event) => setReason(event.currentTarget.value)}
          />
        )}
        {error && <Problem error={error} />}
        <details className="sx-cli">
          <summary>The same on the command line</summary>
          <Lines text={spec.command(reason.trim() || "REASON")} />
        </details>
        <footer>
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" className={spec.danger ? "sx-danger-filled" : ""} loading={busy} disabled={lacks}>
            {spec.label}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}
