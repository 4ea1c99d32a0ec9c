// An action: a button that says what will happen before it does, with the command that does the same. Who may not act
// is not offered it; the server decides in any case. The dialog belongs to the frame and not to the button: when a
// change made elsewhere takes the button away, the dialog stays with what was typed, and the server says what it makes
// of it.
import { Button, Textarea } from "@mantine/core";
import { createContext, type ReactNode, useCallback, useContext, useRef, useState } from "react";
import { useSession } from "../frame/session";
import { Lines } from "./command";
import { Dialog } from "./dialog";
import { Problem } from "./problem";

/** What the text of a dialog can ask of it. */
export interface Asking {
  allow: (can: boolean) => void; // whether it can be done
  choice: string; // what was chosen in the text
  choose: (choice: string) => void;
}

export interface ActionSpec {
  label: string;
  icon?: ReactNode;
  danger?: boolean;
  primary?: boolean;
  role?: "viewer" | "operator" | "admin";
  title: string;
  says: ReactNode | ((asking: Asking) => ReactNode); // what will happen
  choice?: string; // what is chosen at first
  decides?: boolean; // the text says, by `allow`, whether it can be done
  reason?: "required" | "optional";
  command: (reason: string, choice: string) => string;
  act: (reason: string, choice: string) => Promise<unknown>;
  done?: (answer: never) => void;
}

const Opener = createContext<(spec: ActionSpec) => void>(() => undefined);
// what was typed into a dialog that went with the session: it is there again when the same is asked for again
const drafts = new Map<string, string>();

/** Holds the dialog that is open, below the whole page. */
export function ActionHost({ children }: { children: ReactNode }) {
  const [open, setOpen] = useState<{ spec: ActionSpec; n: number } | null>(null);
  const show = useCallback((spec: ActionSpec) => setOpen((before) => before ?? { spec, n: Date.now() }), []);
  return (
    <Opener value={show}>
      {children}
      {open && <ActionDialog key={open.n} spec={open.spec} onClose={() => setOpen(null)} />}
    </Opener>
  );
}

export function Action({ spec }: { spec: ActionSpec }) {
  const { may } = useSession();
  const open = useContext(Opener);
  if (!may(spec.role ?? "operator")) return null;
  return (
    <Button
      size="compact-sm"
      variant={spec.primary ? "filled" : "default"}
      className={spec.danger ? "sx-danger" : ""}
      leftSection={spec.icon}
      onClick={() => open(spec)}
    >
      {spec.label}
    </Button>
  );
}

function ActionDialog({ spec, onClose }: { spec: ActionSpec; onClose: () => void }) {
  const [reason, setReason] = useState(drafts.get(spec.title) ?? "");
  const [choice, choose] = useState(spec.choice ?? "");
  const [error, setError] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const [can, allow] = useState(!spec.decides);
  const sent = useRef(false); // the button may be pressed twice before it is drawn anew
  const lacks = !can || (spec.reason === "required" && !reason.trim());

  const close = () => {
    drafts.delete(spec.title);
    onClose();
  };
  const act = async () => {
    if (sent.current) return;
    sent.current = true;
    setBusy(true);
    setError(null);
    try {
      const answer = await spec.act(reason.trim(), choice);
      close();
      spec.done?.(answer as never);
    } catch (failed) {
      setError(failed as Error);
    } finally {
      sent.current = false;
      setBusy(false);
    }
  };

  return (
    <Dialog title={spec.title} onClose={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!lacks) void act();
        }}
      >
        <div className="sx-says">{typeof spec.says === "function" ? spec.says({ allow, choice, choose }) : spec.says}</div>
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
            onChange={(event) => {
              setReason(event.currentTarget.value);
              drafts.set(spec.title, event.currentTarget.value);
            }}
          />
        )}
        {error && <Problem error={error} asked />}
        <details className="sx-cli">
          <summary>The same on the command line</summary>
          <Lines text={spec.command(reason.trim() || "REASON", choice)} />
        </details>
        <footer>
          <Button variant="default" onClick={close}>
            {busy ? "Close" : "Cancel"}
          </Button>
          <Button type="submit" className={spec.danger ? "sx-danger-filled" : ""} loading={busy} disabled={lacks}>
            {spec.label}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}
