#!/usr/bin/env bash
# Videos: POST /v1/videos. Diffusion needs no workers: one process answers.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
MODEL=${MODEL:-tiny-video}
start "${PIXII_BINARY:-pixii}" serve --model-path "$MODEL" --modality video_diffusion --media-output-fs-url "${MEDIA:-file://$work/media}"
serve
