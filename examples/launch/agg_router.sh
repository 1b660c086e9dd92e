#!/usr/bin/env bash
# Two workers whose KV events tell the frontend who has which prefix.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
MODEL=${MODEL:-tiny-chat}
start "$python" -m dynamo.frontend --router-mode kv
for _ in 1 2; do
  start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --publish-kv-events
done
serve
