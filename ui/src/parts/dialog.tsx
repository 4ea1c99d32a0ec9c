// A modal dialog: the browser's own, which keeps the focus, closes with Escape and needs no injected styles.
import { CloseButton } from "@mantine/core";
import { type ReactNode, useEffect, useId, useRef } from "react";

export function Dialog({
  title,
  onClose,
  children,
  className = "",
  bare = false,
}: {
  title: string;
  onClose: () => void;
  children: ReactNode;
  className?: string;
  bare?: boolean; // without a visible head
}) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current;
    if (dialog && !dialog.open) dialog.showModal();
    dialog?.querySelector<HTMLElement>("[data-autofocus]")?.focus();
    return () => dialog?.close();
  }, []);
  return (
    // A click on the backdrop is one on the dialog itself; Escape does the same by keyboard.
    // oxlint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/no-noninteractive-element-interactions
    <dialog
      ref={ref}
      className={`sx-dialog ${className}`}
      aria-labelledby={bare ? undefined : id}
      aria-label={bare ? title : undefined}
      onClose={onClose}
      onClick={(event) => {
        if (event.target === ref.current) onClose();
      }}
    >
      <div className="sx-dialog-body">
        {!bare && (
          <header>
            <h2 id={id}>{title}</h2>
            <CloseButton aria-label="Close" onClick={onClose} />
          </header>
        )}
        {children}
      </div>
    </dialog>
  );
}
