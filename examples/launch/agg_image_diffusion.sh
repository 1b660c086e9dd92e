#!/usr/bin/env bash
# Pictures: POST /v1/images/generations. Diffusion needs no workers: one process answers.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
MODEL=${MODEL:-tiny-video}
start "${PIXII_BINARY:-pixii}" serve --model-path "$MODEL" --modality image_diffusion --media-output-fs-url "${MEDIA:-file://$work/media}"
serve
