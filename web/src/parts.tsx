// Small pieces that several views use.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api";

export function Problem({ error }: { error: unknown }) {
  if (!error) return null;
  const typed = error instanceof ApiError ? error : null;
  return (
    <div class="problem" role="alert">
      <strong>{typed?.status ? `${typed.status}${typed.code ? ` ${typed.code}` : ""}` : "error"}</strong>
      {typed?.param ? <code>{typed.param}</code> : null}
      <span>{error instanceof Error ? error.message : String(error)}</span>
    </div>
  );
}

export function Field({ label, hint, children }: { label: string; hint?: string; children: ComponentChildren }) {
  return (
    <label class="field">
      <span>{label}{hint ? <small> {hint}</small> : null}</span>
      {children}
    </label>
  );
}

export const textOf = (event: JSX.TargetedEvent<HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement>) => event.currentTarget.value;

export function Copy({ text }: { text: string }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea"); // without a secure context there is no clipboard
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    setDone(true);
  };
  return <button type="button" class="quiet" onClick={copy}>{done ? "Copied" : "Copy"}</button>;
}

/** Calls `look` now and every `every` ms while the page is seen; after failures more seldom. */
export function usePolled<T>(look: () => Promise<T>, every: number, again: unknown): { value: T | null; error: unknown } {
  const [state, setState] = useState<{ value: T | null; error: unknown }>({ value: null, error: null });
  const latest = useRef(look);
  latest.current = look;
  useEffect(() => {
    let wait = every;
    let timer = 0;
    let over = false;
    const turn = async () => {
      if (!document.hidden) {
        try {
          const value = await latest.current();
          if (!over) setState({ value, error: null });
          wait = every;
        } catch (error) {
          if (!over) setState((now) => ({ value: now.value, error }));
          wait = Math.min(wait * 2, 30_000);
        }
      }
      if (!over) timer = window.setTimeout(turn, wait);
    };
    void turn();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [again]);
  return state;
}

/** Shares of a whole, one behind the other, from `begin` on. Without a label it repeats what stands beside it. */
export function Bar({ whole, begin = 0, parts, label }: { whole: number; begin?: number; parts: { kind: "used" | "cached"; size: number }[]; label?: string }) {
  const share = (size: number) => `${whole ? (size / whole) * 100 : 0}%`;
  return (
    <div class="bar" {...(label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" as const })}>
      {parts.map(({ kind, size }, at) => <i class={kind} style={{ marginLeft: share(at ? 0 : begin), width: share(size) }} />)}
    </div>
  );
}

/** A table that scrolls by itself where it is too wide. */
export function Table({ name, heads, kind, children }: { name: string; heads: string[]; kind?: string; children: ComponentChildren }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={name}>
      <table class={kind}>
        <thead><tr>{heads.map((head) => <th scope="col">{head}</th>)}</tr></thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}
