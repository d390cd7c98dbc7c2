// Asks a server in every way that tests/test_openai_node.py checks: node ask.mjs ADDRESS CLIP QUESTION
import fs from "node:fs"
import OpenAI from "openai"

const [address, clip, question] = process.argv.slice(2)
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "none", maxRetries: 0 })
const data = fs.readFileSync(clip).toString("base64")
const content = [{ type: "input_audio", input_audio: { data, format: "wav" } }, { type: "text", text: question }]
const messages = [{ role: "user", content }]

const completion = await client.chat.completions.create({ model: "diffa", messages, max_tokens: 512 })
let streamed = "", usage = null
for await (const chunk of await client.chat.completions.create({
  model: "diffa", messages, stream: true, stream_options: { include_usage: true },
})) {
  streamed += chunk.choices[0]?.delta?.content ?? ""
  usage = chunk.usage ?? usage
}
const transcription = await client.audio.transcriptions.create({ model: "diffa", file: fs.createReadStream(clip) })
const models = []
for await (const model of client.models.list()) models.push(model.id)
let refusal = null
try {
  await client.chat.completions.create({ model: "diffa", messages, n: 2 })
} catch (error) {
  refusal = { status: error.status, param: error.param, requestID: error.requestID, isBadRequest: error instanceof OpenAI.BadRequestError }
}
console.log(JSON.stringify({
  text: completion.choices[0].message.content, finish: completion.choices[0].finish_reason, requestID: completion._request_id,
  streamed, usage, transcription: transcription.text, models, refusal,
}))
