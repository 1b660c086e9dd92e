#!/usr/bin/env bash
# Pictures: one worker looks at them, another one, without a tower, does the rest.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
MODEL=${MODEL:-tiny-vlm}
start "$python" -m dynamo.frontend
start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --modality multimodal --disaggregation-mode encode
start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --modality multimodal --disaggregation-mode pd \
  --encode-endpoint dyn://dynamo.encode.generate --no-vision-tower
serve
