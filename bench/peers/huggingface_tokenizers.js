// Encoding rate of Hugging Face's tokenizers, for the table in docs/performance.md.
// npm install tokenizers; node huggingface_tokenizers.js RUNS TOKENIZER_JSON TEXT...
// One thread: set TOKENIZERS_PARALLELISM=false. Prints a JSON object a text, MB/s the best of the runs.
const fs = require('fs');
const { Tokenizer } = require('tokenizers');
const version = JSON.parse(fs.readFileSync(require.resolve('tokenizers/package.json'))).version;

async function main([runs, model, ...texts]) {
  const tokenizer = Tokenizer.fromFile(model);
  for (const path of texts) {
    const text = fs.readFileSync(path, 'utf8');
    const bytes = Buffer.byteLength(text);
    let best = Infinity;
    let ids = 0;
    for (let run = 0; run < Number(runs); ++run) {
      const begin = process.hrtime.bigint();
      const encoding = await tokenizer.encode(text, null, { addSpecialTokens: false });
      best = Math.min(best, Number(process.hrtime.bigint() - begin) / 1e9);
      ids = encoding.getLength();
    }
    console.log(JSON.stringify({ peer: `tokenizers ${version}`, model, text: path, bytes, ids, mb_per_s: bytes / best / 1e6 }));
  }
}

main(process.argv.slice(2));
