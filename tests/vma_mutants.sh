#!/usr/bin/env bash
# Break each condition of the merge predicates, and each of the conditions on which a leaf is
# edited in place (tests/mutants/vma.txt), in turn, in a copy of the tree, and list the tests that
# notice. A mutant that no test notices fails the script, and so does, in a whole run, a property
# that no mutant makes fail. Prints a Markdown table. An argument picks the mutants whose names
# contain it.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/mutants/lib.sh
copy_tree vma-mutants
read_list vma

only=${1:-}
survivors=0
seen=
total=$(grep -c '^    #\[test\]' sim/src/vma/tests/properties.rs)
echo '| mutant | tests that fail | one of them | properties that fail |'
echo '|---|---|---|---|'
for mutant in "${mutants[@]}"; do
  [[ ${mutant%%|*} == *"$only"* ]] || continue
  if ! break_vma "$mutant"; then
    echo "| ${mutant%%|*} | not applied | | |"
    survivors=$((survivors + 1))
    continue
  fi
  # A mutant may keep a test from ending, which is noticed as well. Building does not count.
  (cd "$work" && CARGO_TARGET_DIR=$target cargo test -p faultbed-sim --lib --no-run) 2>/dev/null || true
  status=0
  out=$(cd "$work" && CARGO_TARGET_DIR=$target \
    timeout 200 cargo test -p faultbed-sim --lib vma:: 2>&1) || status=$?
  mend
  if [ "$status" = 124 ]; then
    echo "| ${mutant%%|*} | they do not end | | |"
    continue
  fi
  failed=$(grep -E '^test .* FAILED$' <<<"$out" | sed 's/^test vma:://; s/^tests:://; s/ \.\.\. FAILED$//' || true)
  count=$(grep -c . <<<"$failed" || true)
  if ! grep -q '^test result:' <<<"$out"; then
    echo "| ${mutant%%|*} | does not build | | |"
    survivors=$((survivors + 1))
  else
    [ "$count" -gt 0 ] || survivors=$((survivors + 1))
    first=$(grep -v '^properties' <<<"$failed" | head -1 || true)
    properties=$(sed -n 's/^properties:://p' <<<"$failed")
    seen+=" $properties"
    if [ "$(grep -c . <<<"$properties")" = "$total" ]; then
      properties=all
    else
      properties=$(sed 's/.*/`&`/' <<<"$properties" | paste -sd, | sed 's/,/, /g; s/^``$//')
    fi
    echo "| ${mutant%%|*} | $count | ${first:+\`$first\`} | $properties |"
  fi
done
if [ -z "$only" ]; then
  for property in $(sed -n 's/^    fn \([a-z_]*\)($/\1/p; s/^    fn \([a-z_]*\)(rules.*/\1/p' sim/src/vma/tests/properties.rs); do
    if ! grep -qw "$property" <<<"$seen"; then
      echo "| no mutant makes \`$property\` fail | | | |"
      survivors=$((survivors + 1))
    fi
  done
fi
exit $((survivors > 0))
