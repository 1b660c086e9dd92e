// Values kept in the browser.
import { useEffect, useState } from "preact/hooks";

export function load<T>(name: string, otherwise: T): T {
  try {
    const text = localStorage.getItem(`pixii.${name}`);
    return text === null ? otherwise : (JSON.parse(text) as T);
  } catch {
    return otherwise;
  }
}

/** False: there is no room for it. */
export function save(name: string, value: unknown): boolean {
  try {
    localStorage.setItem(`pixii.${name}`, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export function useKept<T>(name: string, otherwise: T): [T, (next: T | ((now: T) => T)) => void] {
  const [value, set] = useState<T>(() => load(name, otherwise));
  useEffect(() => void save(name, value), [value]);
  return [value, set];
}
