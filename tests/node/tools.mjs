// Tool loops by hand and by the SDK, and answers that go back as they came.
import { client, input, streamed, told, WITH_USAGE } from "./client.mjs";

const { model, question, cities, tool, report, reasoned } = input;
const { completions } = client.chat;

async function loop() {
  const first = { model, messages: [cities], tools: [tool] };
  const { message } = (await completions.create(first)).choices[0];
  const results = message.tool_calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: report }));
  const second = { ...first, messages: [cities, message, ...results] };
  const whole = told(await completions.create(second));
  return [whole, await streamed(await completions.create({ ...second, ...WITH_USAGE }))];
}

// The SDK calls the function, sends its results and asks again until there is a text.
async function run(stream) {
  const called = [];
  const look = ({ city }) => (called.push(city), report);
  const tools = [{ type: "function", function: { ...tool.function, parse: JSON.parse, function: look } }];
  const text = await completions.runTools({ model, messages: [cities], tools, stream }).finalContent();
  return [text, called];
}

async function echo() {
  const { message } = (await completions.create(reasoned)).choices[0];
  const next = { role: "user", content: "What about Germany?" };
  return [message.reasoning, told(await completions.create({ model, messages: [question, message, next] }))];
}

const seen = { loop: await loop(), run: [await run(false), await run(true)], echo: await echo() };
console.log(JSON.stringify(seen));
