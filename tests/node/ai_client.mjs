// What the AI SDK's programs share: their input (one JSON object on standard input), the two providers an application
// points at us, and what their answers say.
import { readFileSync } from "node:fs";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { createOpenRouter } from "@openrouter/ai-sdk-provider";
import { generateText, jsonSchema, streamText, tool } from "ai";

export const input = JSON.parse(readFileSync(0, "utf8"));
export const sent = []; // the bodies of all requests

function logged(url, options) {
  sent.push(JSON.parse(options.body));
  return fetch(url, options);
}

export function providers(apiKey = input.api_key, headers = {}) {
  const us = { baseURL: input.base_url, apiKey, headers, fetch: logged };
  const whatWeCan = { includeUsage: true, supportsStructuredOutputs: true };
  return {
    compatible: createOpenAICompatible({ ...us, ...whatWeCan, name: "quantized" }),
    openrouter: createOpenRouter({ ...us, compatibility: "strict" }), // that is: ask for the usage of streams
  };
}

// Every program does the same with both.
export async function withBoth(program, headers) {
  const seen = {};
  for (const [name, provider] of Object.entries(providers(input.api_key, headers))) {
    seen[name] = await program(provider, name);
  }
  console.log(JSON.stringify(seen));
}

// Fields the SDK has no names of its own for.
export const fields = (body) => ({ providerOptions: { quantized: body, openrouter: body } });

const { description, parameters } = input.tool.function;
export const tools = (execute) => ({
  get_weather: tool({ description, inputSchema: jsonSchema(parameters), execute }),
});

// As `Told` in conversations.py: text, reasoning, calls, finish reason, prompt and completion tokens, credits.
export function told({ text, reasoningText, toolCalls, finishReason, usage }) {
  const calls = toolCalls.map((call) => [call.toolName, call.input]);
  return [text, reasoningText ?? null, calls, finishReason, ...counted(usage)];
}

// The steps of a call, whole and streamed: each is one request to us.
export async function both(request) {
  const whole = await generateText(request);
  const stream = streamText(request);
  await stream.consumeStream();
  return [whole.steps.map(told), (await stream.steps).map(told)];
}

export const counted = (usage) => [usage.inputTokens, usage.outputTokens, usage.raw.credits_used];

export async function caught(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("nothing was refused");
}
