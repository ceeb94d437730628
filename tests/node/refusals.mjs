// Headers, models, and every class of error a client can bring about.
import { caught, client, input } from "./client.mjs";

const { model, question } = input;
const { completions } = client.chat;
const ask = { model, messages: [question] };

async function headers() {
  const { data, response, request_id } = await completions.create(ask).withResponse();
  return {
    request_ids: [request_id, data._request_id, response.headers.get("x-request-id")],
    generation_ids: [data.id, response.headers.get("x-generation-id")],
    provider: response.headers.get("x-quantized-provider"),
  };
}

async function models() {
  const listed = {};
  for await (const one of client.models.list()) listed[one.id] = one;
  return [listed[model], await client.models.retrieve(model)];
}

async function refused(promise) {
  const error = await caught(promise);
  return [error.constructor.name, error.status, error.type, error.code, error.param, Boolean(error.requestID)];
}

async function poor() {
  const { status, code, error } = await caught(completions.create({ ...ask, max_tokens: 10_000 }));
  return [status, code, error.metadata];
}

const stranger = client.withOptions({ apiKey: "sk-quantized-YOUR-KEY" });
const seen = {
  headers: await headers(),
  models: await models(),
  refused: {
    key: await refused(stranger.chat.completions.create(ask)),
    model: await refused(completions.create({ ...ask, model: "openai/gpt-4.1-minni" })),
    field: await refused(completions.create({ ...ask, n: 2 })),
    range: await refused(completions.create({ ...ask, temperature: 3, stream: true })),
  },
  poor: await poor(),
};
console.log(JSON.stringify(seen));
