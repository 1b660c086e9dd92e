#!/usr/bin/env bash
# Two workers of each kind; prompts go where most of their prefix is.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
MODEL=${MODEL:-tiny-chat}
start "$python" -m dynamo.frontend --router-mode kv
for role in prefill decode; do
  for _ in 1 2; do
    start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --disaggregation-mode "$role" --publish-kv-events
  done
done
serve
