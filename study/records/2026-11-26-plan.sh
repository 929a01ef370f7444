#!/usr/bin/env bash
# The comparisons of 2026-11-26-plan.md by their names, as its commands: emoji-fold-0 to -3,
# held-out-split-0 to -9, closed-0 to -9, numerator, tau, sgd. One that was ended goes on, and one
# that is finished is left alone. From the repository's folder:
#
#     EMOJI=<folder> bash study/records/2026-11-26-plan.sh emoji-fold-0 emoji-fold-1
set -euo pipefail
python=${PYTHON:-.venv/bin/python}
losses=()
for loss in cross_entropy normalized_softmax triplet smooth_ap pml:SupConLoss pml:MultiSimilarityLoss; do
  losses+=(--loss "$loss")
done
tested=(3,6,8 5,6,7 3,5,9 3,4,7 1,7,9 2,4,9 0,1,4 1,2,8 0,2,6 0,5,8)
judging=(1,4,7 1,2,9 0,2,4 0,1,8 2,6,8 0,5,6 3,5,8 3,6,7 5,7,9 3,4,9)
arms=(--max-epochs 9 --search-seeds 5 --confirm-seeds 2 --final-seeds 0 --reference-seeds 0)

compare() { # name, then what is its own
  local name=$1
  shift
  [ ! -e "results/$name/finals/summary.csv" ] || return 0
  if [ -e "results/$name/study.json" ]; then
    "$python" study/compare_losses.py --resume --name "$name"
  else
    "$python" study/compare_losses.py --num-samples 81 --from-scratch --name "$name" "$@"
  fi
}

for name in "$@"; do
  k=${name##*-}
  case $name in
    emoji-fold-[0-3])
      compare "$name" --data "${EMOJI:?the folder of the emoji}" --folds 4 --fold "$k" \
        --seed $((300000 + 10000 * k)) --max-epochs 27 --confirm-seeds 5 --reference-seeds 0 \
        "${losses[@]}" ;;
    held-out-split-[0-9])
      compare "$name" --holdout-classes "${tested[$k]}" --validation-classes "${judging[$k]}" \
        --seed $((200000 + 10000 * k)) --max-epochs 9 --confirm-seeds 5 --reference-seeds 0 \
        "${losses[@]}" ;;
    closed-[01])
      compare "$name" --seed $((100000 + 10000 * k)) --max-epochs 9 --confirm-seeds 2 \
        --reference-seeds 2 --reference-epochs 100 "${losses[@]}" ;;
    closed-[2-9])
      compare "$name" --seed $((100000 + 10000 * k)) --max-epochs 9 --confirm-seeds 2 \
        --reference-seeds 0 "${losses[@]}" ;;
    numerator)
      compare "$name" "${arms[@]}" --seed 400000 \
        --loss smooth_ap:numerator=paper --loss smooth_ap:numerator=seed ;;
    tau)
      compare "$name" "${arms[@]}" --seed 500000 \
        --loss smooth_ap:tau=0.5 --loss smooth_ap:tau=0.01 --loss smooth_ap ;;
    sgd)
      compare "$name" "${arms[@]}" --seed 600000 --space study/records/2026-11-26-sgd.toml \
        --loss smooth_ap:optimizer=sgd,positives=sum --loss smooth_ap:optimizer=sgd \
        --loss smooth_ap ;;
    *)
      echo "the plan has no comparison $name" >&2
      exit 2 ;;
  esac
done
