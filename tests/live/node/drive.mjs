// Drives a gateway with OpenAI's SDK for Node, unchanged, and prints what it saw as one JSON object.
// Usage: node drive.mjs BASE_URL API_KEY MODEL
import OpenAI from "openai";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });
const messages = [{ role: "user", content: "Hello" }];
const parameters = { type: "object", properties: { place: { type: "string" } }, required: ["place"] };
const tools = [{ type: "function", function: { name: "weather", parameters } }];

async function plain() {
  const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
  return {
    content: data.choices[0].message.content,
    total: data.usage.total_tokens,
    requestId: data._request_id,
    deployment: response.headers.get("x-gateway-deployment"),
  };
}

async function streamed() {
  const stream = await client.chat.completions.create({
    model, messages, stream: true, stream_options: { include_usage: true },
  });
  let content = "", usage = null, chunks = 0;
  for await (const chunk of stream) {
    content += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
    chunks += 1;
  }
  return { content, total: usage.total_tokens, chunks };
}

async function tooled() {
  const stream = client.chat.completions.stream({ model, messages, tools });
  const message = await stream.finalMessage();
  return message.tool_calls.map((call) => ({ name: call.function.name, arguments: JSON.parse(call.function.arguments) }));
}

async function broken() {
  let content = "";
  try {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const chunk of stream) content += chunk.choices[0].delta.content ?? "";
  } catch (error) {
    return { content, ...described(error) };
  }
  return { content, name: null };
}

async function failure(call) {
  try {
    await call();
  } catch (error) {
    return described(error);
  }
  return null;
}

function described(error) {
  return { name: error.constructor.name, status: error.status ?? null, code: error.code ?? null, param: error.param ?? null };
}

const seen = {
  plain: await plain(),
  streamed: await streamed(),
  tooled: await tooled(),
  broken: await broken(),
  models: (await client.models.list()).data.map((each) => each.id),
  unauthenticated: await failure(() => new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 }).models.list()),
  unknown: await failure(() => client.chat.completions.create({ model: "sandbux", messages })),
  bad: await failure(() => client.chat.completions.create({ model, messages, temperature: 9 })),
  limited: await failure(() => client.chat.completions.create({ model, messages })),
};
console.log(JSON.stringify(seen));
