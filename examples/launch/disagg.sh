#!/usr/bin/env bash
# One worker computes prompts, the other goes on with their KV blocks.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
MODEL=${MODEL:-tiny-chat}
start "$python" -m dynamo.frontend
start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --disaggregation-mode prefill
start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --disaggregation-mode decode
serve
