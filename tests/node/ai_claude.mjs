// Claude, straight from Anthropic: texts, objects, and tool loops with thoughts, which a budget to think needs back.
import { generateObject, jsonSchema, stepCountIs } from "ai";
import { both, counted, fields, input, tools, withBoth } from "./ai_client.mjs";

const { question, cities, capital } = input;

async function object(model) {
  const asked = { model, prompt: question, schema: jsonSchema(capital.schema), maxOutputTokens: 100 };
  const { object: made, finishReason, usage } = await generateObject(asked);
  return [made, finishReason, ...counted(usage)];
}

async function loop(model, prompt, reasoning) {
  const look = () => input.report;
  const request = { model, prompt, tools: tools(look), stopWhen: stepCountIs(3), maxOutputTokens: 1100 };
  try {
    return await both({ ...request, ...fields({ reasoning }) });
  } catch (error) {
    return [error.statusCode, error.data.error.code, error.data.error.param];
  }
}

async function program(provider) {
  const model = provider(input.model);
  return {
    text: await both({ model, prompt: question, maxOutputTokens: 100 }),
    object: await object(model),
    adaptive: await loop(model, cities, { effort: "low" }),
    budget: await loop(model, cities, { max_tokens: 1024 }),
    redacted: await loop(model, `${input.redacts} ${cities}`, { max_tokens: 1024 }),
  };
}

await withBoth(program, input.headers);
