// An ordinary gRPC client of KServe's protocol: node client.mjs HOST:PORT CASE [ARGUMENT]. Exit 0 if the case holds.
import assert from "node:assert/strict";
import fs from "node:fs";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [address, name, argument] = process.argv.slice(2);
const { inference } = grpc.loadPackageDefinition(loader.loadSync("kserve.proto", { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true }));
const model_name = "tiny-chat";
const plain = grpc.credentials.createInsecure();
const connect = (credentials = plain, at = address) => new inference.GRPCInferenceService(at, credentials);
const client = connect();
const status = grpc.status;

const call = (method, request, { on = client, metadata = new grpc.Metadata(), ...options } = {}) =>
  new Promise((resolve, reject) => on[method](request, metadata, options, (error, answer) => (error ? reject(error) : resolve(answer))));
const text = (value, datatype = "BYTES") => ({ name: "text_input", datatype, shape: [1], contents: { bytes_contents: [Buffer.from(value)] } });
const streaming = { name: "streaming", datatype: "BOOL", shape: [1], contents: { bool_contents: [true] } };
const parameters = (extra) => ({ temperature: { double_param: 0 }, max_tokens: { int64_param: 24 }, ...extra });
const infer = (value, extra = {}) => ({ model_name, id: "7", inputs: [text(value)], parameters: parameters(extra) });
const output = (answer, tensor) => answer.outputs.find((one) => one.name === tensor).contents.bytes_contents.map(String);
const raw = (value) => {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([length, bytes]);
};
const refused = (code, words) => (error) => {
  assert.equal(error.code, code, `${error}`);
  assert.match(error.details, words);
  return true;
};

/** Sends `requests`, gives what comes until the stream ends. */
const stream = (requests, { metadata = new grpc.Metadata(), on = client } = {}) => new Promise((resolve, reject) => {
  const answers = [];
  const duplex = on.ModelStreamInfer(metadata);
  duplex.on("data", (answer) => answers.push(answer));
  duplex.on("error", reject);
  duplex.on("end", () => resolve(answers));
  for (const request of requests) duplex.write(request);
  duplex.end();
});

const cases = {
  async describe() {
    assert.equal((await call("ServerLive", {})).live, true);
    assert.equal((await call("ServerReady", {})).ready, true);
    assert.equal((await call("ModelReady", { name: model_name })).ready, true);
    assert.equal((await call("ServerMetadata", {})).name, "pixii");
    const metadata = await call("ModelMetadata", { name: model_name, version: "1" });
    assert.deepEqual(metadata.inputs, [{ name: "text_input", datatype: "BYTES", shape: [1] }, { name: "streaming", datatype: "BOOL", shape: [1] }]);
    assert.deepEqual(metadata.outputs, [{ name: "text_output", datatype: "BYTES", shape: [-1] }, { name: "finish_reason", datatype: "BYTES", shape: [-1] }]);
    const { config } = await call("ModelConfig", { name: model_name });
    assert.equal(config.name, model_name);
    assert.deepEqual(config.input.map((one) => [one.name, one.data_type, one.optional]), [["text_input", "TYPE_STRING", false], ["streaming", "TYPE_BOOL", true]]);
    assert.equal(config.model_transaction_policy.decoupled, true);
    await assert.rejects(call("ModelReady", { name: "nobody" }), refused(status.NOT_FOUND, /nobody/));
    await assert.rejects(call("ModelMetadata", { name: model_name, version: "9" }), refused(status.NOT_FOUND, /version/));
  },

  /** ARGUMENT: JSON of a prompt and what /v1/completions says to it. */
  async infer() {
    const { prompt, expected, finish } = JSON.parse(argument);
    const answer = await call("ModelInfer", infer(prompt));
    assert.deepEqual([answer.model_name, answer.model_version, answer.id], [model_name, "1", "7"]);
    assert.deepEqual(output(answer, "text_output"), [expected]);
    assert.deepEqual(output(answer, "finish_reason"), [finish]);
    const two = await call("ModelInfer", infer(prompt, { n: { int64_param: 2 } }));
    assert.deepEqual(output(two, "text_output"), [expected, expected]);
    const bytes = await call("ModelInfer", { ...infer(""), inputs: [{ name: "text_input", datatype: "BYTES", shape: [1] }],
      outputs: [{ name: "text_output" }], raw_input_contents: [raw(prompt)] });
    assert.deepEqual(bytes.outputs.map((one) => one.name), ["text_output"]);
    assert.deepEqual(bytes.raw_output_contents, [raw(expected)]);
    const pieces = await stream([{ ...infer(prompt), inputs: [text(prompt), streaming] }]);
    assert.ok(pieces.length > 2 && pieces.every((piece) => piece.error_message === ""));
    assert.equal(pieces.map((piece) => output(piece.infer_response, "text_output")[0]).join(""), expected);
    assert.equal(output(pieces.at(-1).infer_response, "finish_reason")[0], finish);
    assert.equal(pieces.at(-1).infer_response.parameters.triton_final_response.bool_param, true);
    assert.ok(pieces.slice(0, -1).every((piece) => piece.infer_response.parameters.triton_final_response.bool_param === false));
    const several = await stream([infer(prompt), { ...infer(prompt), model_name: "nobody", id: "8" }, { ...infer(prompt), id: "9" }]);
    assert.deepEqual(several.map((one) => one.infer_response.id), ["7", "8", "9"]);
    assert.match(several[1].error_message, /nobody/);
    assert.deepEqual([several[0], several[2]].map((one) => output(one.infer_response, "text_output")[0]), [expected, expected]);
  },

  async errors() {
    await assert.rejects(call("ModelInfer", { ...infer("x"), model_name: "nobody" }), refused(status.NOT_FOUND, /nobody/));
    await assert.rejects(call("ModelInfer", infer("x", { temperature: { double_param: 9 } })), refused(status.INVALID_ARGUMENT, /temperature/));
    await assert.rejects(call("ModelInfer", infer("x", { nonsense: { bool_param: true } })), refused(status.INVALID_ARGUMENT, /nonsense/));
    await assert.rejects(call("ModelInfer", { ...infer("x"), inputs: [] }), refused(status.INVALID_ARGUMENT, /text_input/));
    await assert.rejects(call("ModelInfer", { ...infer("x"), inputs: [text("x", "FP32")] }), refused(status.INVALID_ARGUMENT, /BYTES/));
    await assert.rejects(call("ModelInfer", { ...infer("x"), inputs: [text("x"), streaming] }), refused(status.INVALID_ARGUMENT, /ModelStreamInfer/));
    await assert.rejects(call("ModelInfer", { ...infer(""), inputs: [text(Buffer.from([0xff]))] }), refused(status.INVALID_ARGUMENT, /UTF-8/));
    await assert.rejects(call("ModelInfer", infer("y".repeat(40_000))), refused(status.RESOURCE_EXHAUSTED, /./));
    const unknown = grpc.makeGenericClientConstructor({ Nothing: { path: "/inference.GRPCInferenceService/Nothing", requestStream: false,
      responseStream: false, requestSerialize: Buffer.from, responseDeserialize: Buffer.from } });
    await assert.rejects(call("Nothing", "x", { on: new unknown(address, plain) }), refused(status.UNIMPLEMENTED, /method/));
    const broken = grpc.makeGenericClientConstructor({ Infer: { path: "/inference.GRPCInferenceService/ModelInfer", requestStream: false,
      responseStream: false, requestSerialize: Buffer.from, responseDeserialize: Buffer.from } });
    await assert.rejects(call("Infer", Buffer.from([0x0a, 0xff]), { on: new broken(address, plain) }), refused(status.INVALID_ARGUMENT, /protocol buffer/));
    const odd = (name, responseStream) => new (grpc.makeGenericClientConstructor({ Call: { path: `/inference.GRPCInferenceService/${name}`,
      requestStream: true, responseStream, requestSerialize: Buffer.from, responseDeserialize: Buffer.from } }))(address, plain);
    const cut = await new Promise((resolve) => {
      const duplex = odd("ModelStreamInfer", true).Call();
      duplex.on("data", () => {});
      duplex.on("status", resolve);
      duplex.on("error", () => {});
      duplex.write(Buffer.from([0x0a, 0xff]));
    });
    assert.equal(cut.code, status.INVALID_ARGUMENT);
    const silent = await new Promise((resolve) => odd("ModelInfer", false).Call(resolve).end());
    assert.equal(silent.code, status.INVALID_ARGUMENT);
    const garbage = await new Promise((resolve) => {
      const sending = odd("ServerLive", false).Call(resolve);
      sending.write(Buffer.from([0xff, 0xff]));
      sending.end();
    });
    assert.equal(garbage.code, status.INVALID_ARGUMENT);
  },

  /** Gives a call up in its middle, by the client and by a deadline. */
  async cancel() {
    const long = { ...infer("One"), inputs: [text("One"), streaming], parameters: parameters({ max_tokens: { int64_param: 4000 }, ignore_eos: { bool_param: true } }) };
    let pieces = 0;
    const error = await new Promise((resolve) => {
      const duplex = client.ModelStreamInfer();
      duplex.on("data", () => ++pieces === 3 && duplex.cancel());
      duplex.on("error", resolve);
      duplex.write(long);
    });
    assert.equal(error.code, status.CANCELLED);
    assert.ok(pieces >= 3 && pieces < 4000);
    const unary = { ...long, inputs: [text("One")] };
    await assert.rejects(call("ModelInfer", unary, { deadline: Date.now() + 150 }), refused(status.DEADLINE_EXCEEDED, /./));
  },

  /** ARGUMENT: a key that is known. */
  async keys() {
    await assert.rejects(call("ModelInfer", infer("x")), refused(status.UNAUTHENTICATED, /API key/));
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${argument}`);
    assert.equal(output(await call("ModelInfer", infer("x"), { metadata }), "text_output").length, 1);
    await assert.rejects(call("ModelInfer", infer("x"), { metadata }), refused(status.RESOURCE_EXHAUSTED, /requests_per_minute/));
  },

  /** ARGUMENT: JSON of files: authority, key, certificate. */
  async tls() {
    const files = Object.fromEntries(Object.entries(JSON.parse(argument)).map(([what, file]) => [what, fs.readFileSync(file)]));
    const trusted = grpc.credentials.createSsl(files.authority, files.key, files.certificate);
    assert.equal((await call("ServerLive", {}, { on: connect(trusted) })).live, true);
    const stranger = connect(grpc.credentials.createSsl(files.authority));
    await assert.rejects(call("ServerLive", {}, { on: stranger, deadline: Date.now() + 5000 }));
    await assert.rejects(call("ServerLive", {}, { deadline: Date.now() + 5000 }));
  },
};

if (!cases[name]) throw new Error(`no case ${name}`);
await cases[name]();
process.exit(0);
