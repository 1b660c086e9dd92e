#!/usr/bin/env bash
# Both kinds share one device, so each takes a part of its memory.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
MODEL=${MODEL:-tiny-chat}
MEMORY=${MEMORY:-0.02} # of what is free when each of them starts
start "$python" -m dynamo.frontend
for role in prefill decode; do
  start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --disaggregation-mode "$role" \
    --free-gpu-memory-fraction "$MEMORY"
done
serve
