#!/usr/bin/env bash
# Break one rule of the simulated kernel after another, in a copy of the tree, and list the tests
# that notice: conformance cases, or, for mutants whose file is marked `suite:`, tests of the
# suite. The list is tests/mutants/kernel.txt. A mutant that nothing notices fails the script. Prints a
# Markdown table. Wants a Linux with a userfaultfd. Arguments, if any, choose mutants by a part of
# their names.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/mutants/lib.sh
copy_tree sim-mutants
read_list kernel

survivors=0
echo '| mutant | tests that notice | one of them |'
echo '|---|---|---|'
for mutant in "${mutants[@]}"; do
  IFS='|' read -r name file _ <<<"$mutant"
  if [ $# -gt 0 ]; then
    wanted=0
    for part in "$@"; do [[ $name == *"$part"* ]] && wanted=1; done
    [ $wanted = 1 ] || continue
  fi
  # Huge pages are a pool that others may want, and find nothing that the rest does not; the table
  # is about documents.
  judge=(--test conformance -- --skip huge --skip v57 --skip kinds --skip table)
  if [[ $file == suite:* ]]; then
    judge=(--test suite -- kernel_)
  fi
  if ! break_kernel "$mutant"; then
    echo "| $name | not applied | |"
    survivors=$((survivors + 1))
    continue
  fi
  out=$(cd "$work" && CARGO_TARGET_DIR="$target" \
    timeout 900 cargo test "${judge[@]}" 2>&1 || true)
  mend
  failed=$(grep -E '^test .* FAILED$' <<<"$out" | sed 's/^test //; s/ \.\.\. FAILED$//' || true)
  count=$(grep -c . <<<"$failed" || true)
  if ! grep -q '^test result:' <<<"$out"; then
    echo "| $name | does not build | |"
    grep -m 1 -A 6 '^error' <<<"$out" >&2 || true
    survivors=$((survivors + 1))
  else
    [ "$count" -gt 0 ] || survivors=$((survivors + 1))
    # One that names the rule, if there is one.
    one=$(grep -m 1 "_${name%%:*}_" <<<"$failed" || head -1 <<<"$failed")
    echo "| $name | $count | \`$one\` |"
  fi
done
exit $((survivors > 0))
