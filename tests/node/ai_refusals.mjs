// What an application sees of a refusal.
import { APICallError, generateText } from "ai";
import { caught, fields, input, providers, withBoth } from "./ai_client.mjs";

const { question: prompt } = input;

async function refused(request) {
  const error = await caught(generateText({ prompt, ...request }));
  const { type, code, param, message } = error.data.error;
  if (!APICallError.isInstance(error) || message !== error.message) throw error;
  return [error.statusCode, type, code, param, error.isRetryable];
}

await withBoth(async (provider, name) => {
  const model = provider(input.model);
  const tooMuch = { model, maxOutputTokens: 10_000 };
  return {
    refused: {
      key: await refused({ model: providers("sk-quantized-YOUR-KEY")[name](input.model) }),
      credits: await refused(tooMuch),
      model: await refused({ model: provider("openai/gpt-4.1-minni") }),
      field: await refused({ model, ...fields({ n: 2 }) }),
      range: await refused({ model, temperature: 3 }),
    },
    affordable: (await caught(generateText({ prompt, ...tooMuch }))).data.error.metadata,
  };
});
