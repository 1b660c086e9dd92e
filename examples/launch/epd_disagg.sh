#!/usr/bin/env bash
# Pictures: one worker looks at them, one computes prompts, one decodes.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
MODEL=${MODEL:-tiny-vlm}
ENCODE=dyn://dynamo.encode.generate
start "$python" -m dynamo.frontend
start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --modality multimodal --disaggregation-mode encode
start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --modality multimodal --disaggregation-mode prefill \
  --encode-endpoint "$ENCODE"
start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --modality multimodal --disaggregation-mode decode
serve
