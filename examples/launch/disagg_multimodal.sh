#!/usr/bin/env bash
# Pictures: the worker that computes prompts looks at them.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
MODEL=${MODEL:-tiny-vlm}
start "$python" -m dynamo.frontend
for role in prefill decode; do
  start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --modality multimodal --disaggregation-mode "$role"
done
serve
