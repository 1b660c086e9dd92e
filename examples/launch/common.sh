# What the launch scripts share: processes that end together. A script calls `start WORDS...` for each process and `serve` at its end.
#
# Variables: MODEL; PIXII_PYTHON, the python3 that has the package; DYN_HTTP_PORT of the frontend (8000). Without
# DYN_DISCOVERY_BACKEND the processes find each other in a folder of this script alone, which goes with it.
set -euo pipefail
python=${PIXII_PYTHON:-python3}
work=$(mktemp -d "${TMPDIR:-/tmp}/pixii-launch.XXXXXX")
pids=()

end() {
  trap '' TERM INT
  # The last one that was started is the first to go, and each is waited for.
  for ((i = ${#pids[@]} - 1; i >= 0; --i)); do
    kill -TERM "${pids[i]}" 2>/dev/null || true
    wait "${pids[i]}" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap end EXIT
trap 'exit 0' TERM INT

if [[ -z ${DYN_DISCOVERY_BACKEND:-} ]]; then
  export DYN_DISCOVERY_BACKEND=file DYN_FILE_KV=$work/cluster
fi
# The secret of workers that KV blocks and features of pictures move between.
if [[ -z ${PIXII_WORKER_CLUSTER_KEY:-} ]]; then
  head -c 32 /dev/urandom >"$work/key"
  export PIXII_WORKER_CLUSTER_KEY=$work/key
fi

start() {
  "$@" &
  pids+=($!)
}

# Until one of them ends, whose exit status becomes the script's, or a signal.
serve() {
  local status=0
  wait -n "${pids[@]}" || status=$?
  exit "$status"
}
