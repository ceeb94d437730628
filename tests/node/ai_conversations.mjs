// Whole and streamed: texts, an image, a tool loop with and without reasoning, objects.
import { generateObject, generateText, jsonSchema, Output, stepCountIs, streamObject, streamText } from "ai";
import { both, counted, fields, input, sent, tools, withBoth } from "./ai_client.mjs";

const { question, cities, capital, pixel } = input;

async function gathered(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

async function parts(model) {
  const stream = streamText({ model, prompt: question });
  return (await gathered(stream.fullStream)).map(({ type, text }) => (text === undefined ? type : [type, text]));
}

async function whoAnswered(model) {
  const { response, warnings } = await generateText({ model, prompt: question });
  const id = response.headers["x-generation-id"];
  return { id_is_the_generation: response.id === id, model: response.modelId, warnings };
}

async function loop(model, called, options) {
  const look = ({ city }) => (called.push(city), input.report);
  return both({ model, prompt: cities, tools: tools(look), stopWhen: stepCountIs(3), ...options });
}

// What the SDK sent back of earlier answers' reasoning.
function echoed(from) {
  const echoes = sent.slice(from).flatMap(({ messages }) => messages.filter(({ role }) => role === "assistant"));
  return echoes.map(({ content, tool_calls, ...rest }) => rest);
}

async function objects(model) {
  const schema = jsonSchema(capital.schema);
  const asked = { model, prompt: question, schema, schemaName: "capital" };
  const whole = await generateObject(asked);
  const stream = streamObject(asked);
  const partial = await gathered(stream.partialObjectStream);
  const output = await generateText({ model, prompt: question, output: Output.object({ schema }) });
  return {
    whole: [whole.object, whole.finishReason, ...counted(whole.usage)],
    streamed: [await stream.object, await stream.finishReason, ...counted(await stream.usage)],
    partial,
    output: [output.output, output.finishReason, ...counted(output.usage)],
  };
}

const picture = [{ type: "text", text: "What is in this image?" }, { type: "image", image: pixel }];

await withBoth(async (provider) => {
  const model = provider(input.model);
  const called = [];
  const seen = {
    text: await both({ model, prompt: question, system: "Be brief.", temperature: 0, maxOutputTokens: 64 }),
    parts: await parts(model),
    answered: await whoAnswered(model),
    image: await both({ model, messages: [{ role: "user", content: picture }] }),
    loop: await loop(model, called),
    required: await both({ model, prompt: question, tools: tools(), toolChoice: "required" }),
    objects: await objects(model),
  };
  const from = sent.length;
  const thinking = { maxOutputTokens: 100, ...fields({ reasoning: { effort: "minimal" } }) };
  const reasoned = await loop(provider(input.reasoner), called, thinking);
  return { ...seen, called, reasoned, echoes: echoed(from) };
});
