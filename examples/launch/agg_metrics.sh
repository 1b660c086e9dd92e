#!/usr/bin/env bash
# One worker with its health and metrics on a port of its own.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
MODEL=${MODEL:-tiny-chat}
start "$python" -m dynamo.frontend
start env DYN_SYSTEM_PORT="${DYN_SYSTEM_PORT:-8081}" "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --publish-kv-events
serve
