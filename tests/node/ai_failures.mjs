// What an application sees of a provider that is away, and of a stream that breaks.
import { generateText, NoOutputGeneratedError, RetryError, streamText } from "ai";
import { caught, fields, input, withBoth } from "./ai_client.mjs";

const { question: prompt } = input;
const AWAY = fields({ user: "sandbox:fault=http:503 retry_after=0" });
const BREAKS = fields({ user: "sandbox:tokens=20 fault=midstream_documented:4" });

async function away(model) {
  const error = await caught(generateText({ model, prompt, maxRetries: 1, ...AWAY }));
  if (!RetryError.isInstance(error)) throw error;
  return [error.reason, error.errors.map(({ statusCode, data }) => [statusCode, data.error.code])];
}

// A stream tells its errors as parts and to `onError`. It throws only where there is no answer at all.
async function streamed(model, failing) {
  const [kinds, errors, heard] = [[], [], []];
  const onError = ({ error }) => heard.push(error.message);
  const stream = streamText({ model, prompt, maxRetries: 0, onError, ...failing });
  for await (const { type, error } of stream.fullStream) {
    kinds.push(type);
    if (error) errors.push([error.message, error.statusCode ?? null]);
  }
  return { kinds, errors, heard, ended: await ended(stream) };
}

async function ended(stream) {
  try {
    return [await stream.finishReason, await stream.text];
  } catch (error) {
    return NoOutputGeneratedError.isInstance(error) ? "NoOutputGeneratedError" : String(error);
  }
}

await withBoth(async (provider) => {
  const model = provider(input.model);
  return {
    away: await away(model),
    away_streamed: await streamed(model, AWAY),
    broken: await streamed(model, BREAKS),
  };
});
