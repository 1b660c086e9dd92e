#!/usr/bin/env bash
# One worker behind a frontend.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
MODEL=${MODEL:-tiny-chat}
start "$python" -m dynamo.frontend
start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --modality text
serve
