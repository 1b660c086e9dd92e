// Calls to the server that this page came from, with its typed errors.
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** What the server refused, or why it could not be asked. */
export class ApiError extends Error {
  constructor(message: string, readonly status = 0, readonly code = "", readonly param = "") {
    super(message);
  }
}

const kKeyName = "pixii.key";
let key = sessionStorage.getItem(kKeyName) ?? "";

export const apiKey = () => key;

/** Kept until the tab is closed. */
export function useKey(value: string): void {
  key = value.trim();
  sessionStorage.setItem(kKeyName, key);
}

/** A header's worth of hexadecimal digits; `crypto.randomUUID` is not there over plain HTTP. */
export function newId(): string {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function problem(answer: Response): Promise<ApiError> {
  const text = await answer.text();
  try {
    const body = JSON.parse(text);
    const inner = body.error ?? body;
    return new ApiError(inner.message ?? text, answer.status, String(inner.code ?? inner.type ?? ""), inner.param ?? "");
  } catch {
    return new ApiError(text.slice(0, 500) || answer.statusText, answer.status);
  }
}

interface Asked {
  method?: string;
  body?: unknown;
  signal?: AbortSignal;
  headers?: Record<string, string>;
}

/** Errors: ApiError; an abort stays what it is. */
export async function ask(path: string, { method, body, signal, headers }: Asked = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers: {
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(key ? { Authorization: `Bearer ${key}` } : {}),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("the server does not answer");
  }
  if (!answer.ok) throw await problem(answer);
  return answer;
}

export const askJson = async <T,>(path: string, asked: Asked = {}): Promise<T> => (await ask(path, asked)).json();

/** The JSON of each event. Errors: ApiError, also if the stream ends without [DONE]. */
export async function* events<T>(path: string, asked: Asked): AsyncGenerator<T> {
  const answer = await ask(path, asked);
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new ApiError("the answer broke off");
    held += value;
    const lines = held.split("\n");
    held = lines.pop()!;
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ApiError(event.error.message, 200, String(event.error.code ?? ""), event.error.param ?? "");
      yield event;
    }
  }
}

export interface Model {
  id: string;
  task: string;
  max_model_len?: number;
}

export const models = async () => (await askJson<{ data: Model[] }>("/v1/models")).data;
