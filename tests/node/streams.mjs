// What a stream looks like chunk by chunk, and how one ends that breaks.
import { caught, client, input } from "./client.mjs";

const { model, question } = input;
const ask = { model, messages: [question], stream: true };

async function chunks(request) {
  const gathered = [];
  for await (const chunk of await client.chat.completions.create(request)) gathered.push(chunk);
  return gathered;
}

async function withUsage() {
  const seen = await chunks({ ...ask, stream_options: { include_usage: true } });
  return {
    deltas: seen.flatMap(({ choices }) => choices.map(({ delta }) => delta)),
    finishes: seen.flatMap(({ choices }) => choices.map(({ finish_reason }) => finish_reason)),
    usages: seen.map(({ usage }) => usage && [usage.total_tokens, usage.credits_used, usage.credits_remaining]),
    ids: new Set(seen.map(({ id }) => id)).size,
  };
}

async function withoutUsage() {
  const seen = await chunks(ask);
  return { usages: seen.filter((chunk) => "usage" in chunk).length, finish: seen.at(-1).choices[0].finish_reason };
}

async function logprobs() {
  const messages = [{ role: "user", content: "Say: yes" }];
  const seen = await chunks({ ...ask, messages, logprobs: true, top_logprobs: 1 });
  return seen.flatMap(({ choices }) => choices[0].logprobs?.content ?? []);
}

async function broken() {
  const user = "sandbox:tokens=20 fault=midstream_documented:4";
  const stream = await client.chat.completions.create({ ...ask, user });
  const words = [];
  async function read() {
    for await (const { choices } of stream) words.push(choices[0].delta.content);
  }
  const error = await caught(read());
  return [error.constructor.name, error.message, words.filter(Boolean).length];
}

const seen = {
  with_usage: await withUsage(),
  without_usage: await withoutUsage(),
  logprobs: await logprobs(),
  broken: await broken(),
};
console.log(JSON.stringify(seen));
