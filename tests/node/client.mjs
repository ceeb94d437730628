// What the programs share: their input (one JSON object on standard input), a client, and what answers say.
import { readFileSync } from "node:fs";
import OpenAI from "openai";

export const input = JSON.parse(readFileSync(0, "utf8"));
export const client = new OpenAI({ apiKey: input.api_key, baseURL: input.base_url, maxRetries: 0 });
export const WITH_USAGE = { stream: true, stream_options: { include_usage: true } };

// As `Told` in conversations.py: text, reasoning, calls, finish reason, prompt and completion tokens, credits.
export function told({ choices: [choice], usage }) {
  const { content, reasoning, tool_calls: calls } = choice.message;
  const made = (calls ?? []).map((call) => [call.function.name, call.function.arguments]);
  return [content, reasoning ?? null, made, choice.finish_reason, ...counted(usage)];
}

// A stream with its usage, put together the way an application does.
export async function streamed(stream) {
  const said = { text: "", reasoning: "", calls: [], finishes: [], usage: null };
  for await (const { choices, usage } of stream) {
    choices.forEach((choice) => add(said, choice));
    said.usage = usage;
  }
  return [said.text, said.reasoning || null, said.calls, said.finishes.join(), ...counted(said.usage)];
}

function add(said, { delta, finish_reason }) {
  said.text += delta.content ?? "";
  said.reasoning += delta.reasoning ?? "";
  for (const { index, function: part } of delta.tool_calls ?? []) {
    said.calls[index] ??= [part.name, ""];
    said.calls[index][1] += part.arguments;
  }
  if (finish_reason) said.finishes.push(finish_reason);
}

function counted(usage) {
  return [usage.prompt_tokens, usage.completion_tokens, usage.credits_used];
}

export async function caught(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("nothing was refused");
}
