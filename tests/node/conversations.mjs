// Every conversation whole, streamed, and by the SDK's own stream helper.
import { client, input, streamed, told, WITH_USAGE } from "./client.mjs";

const { completions } = client.chat;
const answers = { whole: {}, streamed: {}, helper: {} };

for (const [name, request] of Object.entries(input.conversations)) {
  answers.whole[name] = told(await completions.create(request));
  answers.streamed[name] = await streamed(await completions.create({ ...request, ...WITH_USAGE }));
  answers.helper[name] = told(await completions.stream({ ...request, ...WITH_USAGE }).finalChatCompletion());
}

console.log(JSON.stringify(answers));
