#!/usr/bin/env bash
# Score the ten questions of this folder by this repository's script, and by lmms-eval in four forms: five equal scores.
#     python -m venv .venv-lmms && .venv-lmms/bin/pip install lmms-eval==0.7.3 soundfile librosa "filelock<3.21"
#     bash examples/lmms_eval/run.sh .venv-lmms
# (lmms-eval 0.7.3 reaches into filelock, and not into later releases of it; one form imports librosa, which it does not
# bring.)
# MODEL_FLAGS holds flags of serve.py and inference_stage2_mmau.py; by default, the built-in miniature answers.
set -euo pipefail
environment=$(realpath "${1:?give the folder of an environment with lmms-eval}")
cd "$(dirname "$0")/../.."
assets=demo/assets
read -ra model <<< "${MODEL_FLAGS:---model_path $assets/diffa --llm_path $assets/llada --whisper_path $assets/whisper}"
settings=(--preset exact --steps 16 --block_length 16 --max_new_tokens 16)
tasks=examples/lmms_eval
output=$(mktemp -d)
port=${PORT:-8123}
export OPENAI_API_KEY=none OPENAI_API_BASE=http://127.0.0.1:$port/v1 OPENAI_BASE_URL=http://127.0.0.1:$port/v1

python inference_stage2_mmau.py "${model[@]}" "${settings[@]}" --input $tasks/questions.json --output "$output/mmau.json" \
  2> "$output/mmau.log"
echo "== inference_stage2_mmau.py"
python mmau/evaluate.py "$output/mmau.json" | sed -n 2,4p

python serve.py "${model[@]}" "${settings[@]}" --port "$port" > "$output/serve.log" 2>&1 &
server=$!
trap 'kill $server' EXIT
until curl -sf "http://127.0.0.1:$port/health" > /dev/null; do
  kill -0 $server || { cat "$output/serve.log"; exit 1; }
  sleep 1
done

run() { # form, model, task, further flags
  echo "== lmms-eval, $1"
  "$environment/bin/python" -m lmms_eval --model "$2" --tasks "$3" --include_path $tasks --model_args model_version=diffa \
    --batch_size 1 --log_samples --output_path "$output" "${@:4}" > "$output/$1.log" 2>&1 || true
  grep -E "^\|diffa" "$output/$1.log" || { tail -n 20 "$output/$1.log"; exit 1; }
}
run audio_url openai diffa_local
run audio_url_async async_openai diffa_local
run input_audio openai diffa_local --force_simple
run arrays gpt4o_audio diffa_local_arrays
