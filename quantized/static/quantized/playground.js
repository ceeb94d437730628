// The playground: one conversation with our own API, streamed, with what each answer cost.

const form = document.getElementById("play");

// --- What the page says -------------------------------------------------------------------------------

const NUMBERS = ["temperature", "top_p", "max_tokens"];
const IMAGE_BYTES_MAX = 8 * 1024 * 1024;
const TOOLS_EXAMPLE = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather of a city.",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];

const element = (id) => document.getElementById(id);
const able = () => element("model").selectedOptions[0]?.dataset.able.split(" ") ?? [];

function make(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Cut off at the fourth decimal like every amount of the dashboard: nobody is shown a credit they do not have. */
function credits(micro) {
  const cut = Math.trunc(micro / 100) / 10_000;
  return cut.toLocaleString("en-US", { maximumFractionDigits: 4 });
}

function seconds(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

// --- The conversation -----------------------------------------------------------------------------------

let messages = [];
let image = null; // {name, url}
let running = null; // AbortController of the stream

/** The body of the request, or null while the tools cannot be read. */
function requestBody(shown) {
  const body = { model: element("model").value, messages: [] };
  if (element("system").value.trim()) {
    body.messages.push({ role: "system", content: element("system").value.trim() });
  }
  body.messages.push(...shown);
  for (const name of NUMBERS) {
    if (element(name).value !== "") {
      body[name] = Number(element(name).value);
    }
  }
  if (able().includes("reasoning") && element("reasoning_effort").value) {
    body.reasoning_effort = element("reasoning_effort").value;
  }
  if (able().includes("json_mode") && element("response_format").value) {
    body.response_format = { type: element("response_format").value };
  }
  const tools = able().includes("tools") ? readTools() : undefined;
  if (tools === null) {
    return null;
  }
  if (tools?.length) {
    body.tools = tools;
  }
  return body;
}

function readTools() {
  const problem = element("tools-problem");
  problem.textContent = "";
  element("tools").removeAttribute("aria-invalid");
  const text = element("tools").value.trim();
  if (!text) {
    return undefined;
  }
  try {
    const tools = JSON.parse(text);
    if (Array.isArray(tools)) {
      return tools;
    }
    problem.textContent = "Tools are a JSON array.";
  } catch (error) {
    problem.textContent = `Not JSON: ${error.message}`;
  }
  element("tools").setAttribute("aria-invalid", "true");
  return null;
}

function typedMessage() {
  const text = element("prompt").value.trim();
  if (!image) {
    return { role: "user", content: text };
  }
  const parts = [{ type: "image_url", image_url: { url: image.url } }];
  return { role: "user", content: text ? [{ type: "text", text }, ...parts] : parts };
}

async function send(event) {
  event?.preventDefault();
  if (running || (!element("prompt").value.trim() && !image)) {
    element("prompt").focus();
    return;
  }
  const message = typedMessage();
  if (requestBody([...messages, message]) === null) {
    element("tools").focus();
    return;
  }
  messages.push(message);
  showUser(message);
  const typed = element("prompt").value;
  element("prompt").value = "";
  const picture = image;
  setImage(null);
  if (!(await ask())) {
    messages.pop(); // what failed is not part of what the model is told next time
    element("prompt").value ||= typed;
    setImage(picture);
  }
  showCode();
}

/** Sends the conversation as it stands and shows the answer as it comes. True when there is one. */
async function ask() {
  const turn = showAnswer();
  running = new AbortController();
  setRunning(true);
  const answer = { text: "", thought: "", calls: [], usage: null, id: "", finish: "", began: performance.now() };
  try {
    const body = { ...requestBody(messages), stream: true, stream_options: { include_usage: true } };
    await stream(body, answer, turn);
  } catch (error) {
    if (error.name !== "AbortError") {
      turn.fail(error);
      return false;
    }
    answer.finish = "stopped";
  } finally {
    running = null;
    setRunning(false);
  }
  turn.finish(answer);
  const told = { role: "assistant", content: answer.text || null };
  if (answer.calls.length) {
    told.tool_calls = answer.calls;
  }
  if (answer.finish === "stopped") {
    told.content = answer.text || "…";
    delete told.tool_calls;
  }
  messages.push(told);
  return true;
}

// --- The API --------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, told, requestId) {
    super(told?.message ?? `The server answered ${status}.`);
    Object.assign(this, { status, code: told?.code ?? "", requestId });
  }
}

let token = { text: "", endsAt: 0 };

/** A short-lived access token of the member who is logged in; never an API key. */
async function bearer() {
  if (token.endsAt > Date.now()) {
    return token.text;
  }
  const response = await fetch(form.dataset.token, {
    method: "POST",
    headers: { "X-CSRFToken": form.elements.csrfmiddlewaretoken.value },
    redirect: "manual",
    signal: running?.signal,
  });
  if (!response.ok) {
    const told = response.status === 403 ? await response.json().catch(() => null) : null;
    const message = told?.error ?? "You are logged out: reload the page to log in again.";
    throw new Refused(response.status, { message }, response.headers.get("x-request-id"));
  }
  const told = await response.json();
  token = { text: told.access_token, endsAt: Date.now() + (told.expires_in - 60) * 1000 };
  return token.text;
}

async function stream(body, answer, turn) {
  const headers = { Authorization: `Bearer ${await bearer()}`, "Content-Type": "application/json" };
  answer.began = performance.now();
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers,
    body: JSON.stringify(body),
    signal: running.signal,
  });
  answer.requestId = response.headers.get("x-request-id");
  if (!response.ok) {
    if (response.status === 401) {
      token = { text: "", endsAt: 0 };
    }
    const told = await response.json().catch(() => null);
    throw new Refused(response.status, told?.error, answer.requestId);
  }
  for await (const data of events(response.body)) {
    if (data === "[DONE]") {
      break;
    }
    take(JSON.parse(data), answer, turn);
  }
}

/** The data of each server-sent event. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) {
      return;
    }
    rest += value;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n").filter((line) => line.startsWith("data:"));
      if (lines.length) {
        yield lines.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  }
}

function take(chunk, answer, turn) {
  if (chunk.error) {
    throw new Refused(200, chunk.error, answer.requestId);
  }
  answer.id = chunk.id ?? answer.id;
  answer.usage = chunk.usage ?? answer.usage;
  const [choice] = chunk.choices;
  if (!choice) {
    return;
  }
  const delta = choice.delta ?? {};
  if (delta.content || delta.reasoning || delta.reasoning_content || delta.tool_calls) {
    answer.firstMs ??= performance.now() - answer.began;
  }
  answer.text += delta.content ?? "";
  answer.thought += delta.reasoning ?? delta.reasoning_content ?? "";
  answer.finish = choice.finish_reason ?? answer.finish;
  for (const part of delta.tool_calls ?? []) {
    const call = (answer.calls[part.index] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
    call.id ||= part.id ?? "";
    call.function.name += part.function?.name ?? "";
    call.function.arguments += part.function?.arguments ?? "";
  }
  turn.show(answer);
}

// --- What is shown --------------------------------------------------------------------------------------

function addTurn(kind, who) {
  element("talk-empty").hidden = true;
  const turn = make("div", `turn turn-${kind}`);
  turn.append(make("p", "turn-who", who));
  element("talk").append(turn);
  return turn;
}

function showUser(message) {
  const turn = addTurn("user", "You");
  const parts = typeof message.content === "string" ? [{ type: "text", text: message.content }] : message.content;
  for (const part of parts) {
    if (part.type === "text") {
      turn.append(make("p", "turn-text", part.text));
    } else {
      const picture = make("img", "turn-image");
      picture.src = part.image_url.url;
      picture.alt = "The image you added";
      turn.append(picture);
    }
  }
}

function showAnswer() {
  const turn = addTurn("answer", element("model").value);
  const waiting = make("p", "waiting soft", "Waiting for the first token");
  waiting.prepend(make("span", "pulse"));
  const thought = make("p", "turn-thought");
  const text = make("p", "turn-text");
  thought.hidden = text.hidden = true;
  turn.append(waiting, thought, text);
  return {
    show(answer) {
      waiting.hidden = Boolean(answer.text || answer.thought || answer.calls.length);
      thought.hidden = !answer.thought;
      thought.textContent = answer.thought;
      text.hidden = !answer.text;
      text.textContent = answer.text;
    },
    finish(answer) {
      waiting.remove();
      if (answer.finish === "stopped") {
        turn.append(make("p", "soft", "Stopped. What was made until then is charged; its cost is in the activity."));
      }
      if (answer.calls.length && answer.finish !== "stopped") {
        showCalls(turn, answer.calls);
      }
      turn.append(facts(answer));
      turn.scrollIntoView({ block: "nearest" });
    },
    fail(error) {
      waiting.remove();
      turn.append(failure(error));
      turn.scrollIntoView({ block: "nearest" });
    },
  };
}

function facts(answer) {
  const line = make("p", "turn-facts");
  const tookMs = performance.now() - answer.began;
  const told = [];
  if (answer.usage) {
    told.push(`${credits(answer.usage.credits_used)} credits`);
    told.push(`${answer.usage.prompt_tokens} → ${answer.usage.completion_tokens} tokens`);
    line.title = `${answer.usage.credits_used.toLocaleString("en-US")} micro-credits`;
    showBalance(answer.usage.credits_remaining);
  }
  if (answer.firstMs !== undefined) {
    told.push(`first token ${seconds(answer.firstMs)}`);
  }
  told.push(`in all ${seconds(tookMs)}`);
  if (answer.finish && answer.finish !== "stop") {
    told.push(answer.finish);
  }
  line.textContent = told.join(" · ");
  if (answer.id) {
    const link = make("a", "", "Receipt");
    link.href = `${form.dataset.activity}/${answer.id}`;
    line.append(" · ", link);
  }
  return line;
}

/** The ledger's number, as the answer told it. */
function showBalance(remaining) {
  const shown = document.querySelector(".balance .number");
  if (shown && Number.isInteger(remaining)) {
    shown.textContent = credits(remaining);
    shown.parentElement.title = `${remaining.toLocaleString("en-US")} micro-credits`;
  }
}

function failure(error) {
  const box = make("div", "turn-failed");
  box.setAttribute("role", "alert");
  const isRefused = error instanceof Refused;
  box.append(make("p", "strong", isRefused ? error.message : `The server cannot be reached: ${error.message}`));
  const advice = make("p", "small", "");
  if (error.status === 402) {
    advice.append("There are too few credits for the longest answer this call may have. ", linkTo(form.dataset.billing, "See Billing"), ", or lower the longest answer.");
  } else if (error.status === 404) {
    advice.append("Choose another model. ", linkTo(form.dataset.models, "See what is served"));
  } else if (error.status === 429) {
    advice.textContent = "Wait a moment, then send it again.";
  } else if (error.status >= 500 || error.status === 200) {
    advice.textContent = "Nothing you wrote is wrong: send it again in a moment, or choose another model.";
  } else if (error.status === 400) {
    advice.textContent = "Change what the message names, and send it again.";
  }
  const ids = [error.code, error.requestId && `request ${error.requestId}`].filter(Boolean).join(" · ");
  box.append(advice, make("p", "small masked", ids));
  return box;
}

function linkTo(href, text) {
  const link = make("a", "", text);
  link.href = href;
  return link;
}

/** The model asks for tools: you play them. */
function showCalls(turn, calls) {
  const fields = calls.map((call) => {
    const field = make("label", "field");
    field.append(make("code", "", `${call.function.name}(${call.function.arguments})`));
    const result = make("textarea", "");
    result.rows = 2;
    result.placeholder = "What the tool answers";
    field.append(result);
    turn.append(field);
    return [call, result];
  });
  const button = make("button", "button button-small", "Send the results");
  button.type = "button";
  turn.append(button);
  button.addEventListener("click", async () => {
    if (running) {
      return;
    }
    button.disabled = true;
    const results = fields.map(([call, result]) => ({ role: "tool", tool_call_id: call.id, content: result.value }));
    messages.push(...results);
    if (!(await ask())) {
      messages.splice(-results.length);
      button.disabled = false;
    }
    showCode();
  });
}

function setRunning(isRunning) {
  element("send").hidden = isRunning;
  element("stop").hidden = !isRunning;
  if (!isRunning) {
    element("prompt").focus({ preventScroll: true });
  }
}

// --- The image ------------------------------------------------------------------------------------------

function setImage(chosen) {
  image = chosen;
  element("image-name").textContent = chosen ? chosen.name : "";
  element("image-clear").hidden = !chosen;
  element("image").value = "";
  showCode();
}

function readImage() {
  const [file] = element("image").files;
  if (!file) {
    return;
  }
  if (file.size > IMAGE_BYTES_MAX) {
    setImage(null);
    element("image-name").textContent = "An image has at most 8 MB.";
    return;
  }
  const reader = new FileReader();
  reader.addEventListener("load", () => setImage({ name: file.name, url: reader.result }));
  reader.readAsDataURL(file);
}

// --- The same from one's own code -----------------------------------------------------------------------

let language = "curl";

function exampleBody() {
  const text = element("prompt").value.trim();
  const isWaiting = text || image || !messages.length;
  const next = text || image ? typedMessage() : { role: "user", content: "What is the capital of France?" };
  const body = requestBody(isWaiting ? [...messages, next] : messages.slice(0, lastQuestion() + 1));
  return body && shortened(body);
}

function lastQuestion() {
  return messages.findLastIndex((message) => message.role !== "assistant");
}

/** An image's data would fill the page. */
function shortened(body) {
  return JSON.parse(JSON.stringify(body), (name, value) =>
    name === "url" && typeof value === "string" && value.startsWith("data:") ? `${value.slice(0, 40)}…` : value,
  );
}

/** A value as Python writes it. */
function python(value, indent = "") {
  const inner = `${indent}    `;
  if (value === null) {
    return "None";
  }
  if (typeof value === "boolean") {
    return value ? "True" : "False";
  }
  if (Array.isArray(value)) {
    return value.length ? `[\n${value.map((each) => `${inner}${python(each, inner)},`).join("\n")}\n${indent}]` : "[]";
  }
  if (typeof value === "object") {
    const lines = Object.entries(value).map(([name, each]) => `${inner}${JSON.stringify(name)}: ${python(each, inner)},`);
    return lines.length ? `{\n${lines.join("\n")}\n${indent}}` : "{}";
  }
  return JSON.stringify(value);
}

const CODE = {
  curl: (body) =>
    `curl ${form.dataset.api}/chat/completions \\\n  -H "Authorization: Bearer $QUANTIZED_API_KEY" \\\n` +
    `  -H "Content-Type: application/json" \\\n  -d '${JSON.stringify(body, null, 2).replaceAll("'", "'\\''")}'`,
  openai: (body) => {
    const given = Object.entries(body).map(([name, value]) => `    ${name}=${python(value, "    ")},`);
    return (
      "import os\n\nfrom openai import OpenAI\n\n" +
      `client = OpenAI(base_url=${JSON.stringify(form.dataset.api)}, api_key=os.environ["QUANTIZED_API_KEY"])\n` +
      `completion = client.chat.completions.create(\n${given.join("\n")}\n)\n` +
      "print(completion.choices[0].message.content)\nprint(completion.usage)"
    );
  },
  httpx: (body) =>
    "import os\n\nimport httpx\n\n" +
    `response = httpx.post(\n    ${JSON.stringify(`${form.dataset.api}/chat/completions`)},\n` +
    '    headers={"Authorization": f"Bearer {os.environ[\'QUANTIZED_API_KEY\']}"},\n' +
    `    json=${python(body, "    ")},\n    timeout=300,\n)\nresponse.raise_for_status()\n` +
    'print(response.json()["choices"][0]["message"]["content"])',
};

function showCode() {
  const body = exampleBody();
  if (body) {
    element("code").textContent = CODE[language](body);
  }
}

// --- Wiring ---------------------------------------------------------------------------------------------

function showModel() {
  for (const field of form.querySelectorAll("[data-needs]")) {
    field.hidden = !able().includes(field.dataset.needs);
  }
  const takesImages = able().includes("image_input");
  element("image-label").hidden = !takesImages;
  element("model-link").href = `${form.dataset.models}/${element("model").value}`;
  if (!takesImages && image) {
    setImage(null);
  }
  showCode();
}

function wire() {
  form.addEventListener("submit", send);
  form.addEventListener("input", showCode);
  element("model").addEventListener("change", showModel);
  element("stop").addEventListener("click", () => running?.abort());
  element("image").addEventListener("change", readImage);
  element("image-clear").addEventListener("click", () => setImage(null));
  element("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      send(event);
    }
  });
  element("clear").addEventListener("click", () => {
    running?.abort();
    messages = [];
    element("talk").replaceChildren(element("talk-empty"));
    element("talk-empty").hidden = false;
    showCode();
  });
  element("tools-example").addEventListener("click", () => {
    element("tools").value = JSON.stringify(TOOLS_EXAMPLE, null, 2);
    showCode();
  });
  for (const tab of form.querySelectorAll("[data-language]")) {
    tab.addEventListener("click", () => {
      language = tab.dataset.language;
      for (const each of form.querySelectorAll("[data-language]")) {
        each.setAttribute("aria-selected", String(each === tab));
      }
      showCode();
    });
  }
  showModel();
}

if (form) {
  wire();
}
