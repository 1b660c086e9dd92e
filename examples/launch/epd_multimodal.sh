#!/usr/bin/env bash
# The same with pictures from files of a folder, which the frontend reads.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
MODEL=${MODEL:-tiny-vlm}
MEDIA=${MEDIA:-$work}
ENCODE=dyn://dynamo.encode.generate
start "$python" -m dynamo.frontend --allowed-local-media-path "$MEDIA" --max-file-size-mb 50
start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --modality multimodal --disaggregation-mode encode \
  --allowed-local-media-path "$MEDIA" --max-file-size-mb 50
start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --modality multimodal --disaggregation-mode prefill \
  --encode-endpoint "$ENCODE"
start "$python" -m dynamo.trtllm --model-path "$MODEL" --served-model-name "$MODEL" --modality multimodal --disaggregation-mode decode
serve
