#!/usr/bin/env bash
# Does every entry of tests/mutants still change the file that it names, and is every mutant that
# arms.txt makes claims about in its list? Breaks a copy of the tree and runs nothing, so that a
# list that the code has left behind is noticed before somebody needs it.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/mutants/lib.sh
copy_tree mutants-apply
failures=0 count=0
complain() {
  echo "tests/mutants/$1.txt: \`$2\` $3" >&2
  failures=$((failures + 1))
}

for list in kernel vma; do
  read_list $list
  for mutant in "${mutants[@]}"; do
    count=$((count + 1))
    "break_$list" "$mutant" || complain $list "${mutant%%|*}" 'changes nothing'
    mend
  done
done

# These go into one build, one behind the other.
read_list ahead
for mutant in "${mutants[@]}"; do
  count=$((count + 1))
  IFS='|' read -r name file edit <<<"$mutant"
  cp "$work/$file" "$work/orig"
  perl -0pi -e "${edit//MUTANT/mutant()}" "$work/$file"
  if cmp -s "$work/$file" "$work/orig"; then complain ahead "$name" 'changes nothing'; fi
done

while IFS='|' read -r list name _; do
  grep -qF "$name|" "tests/mutants/$list.txt" || complain arms "$name" "is not in $list.txt"
done < <(grep -v '^[#=]' tests/mutants/arms.txt)

echo "$count mutants, $failures that do not apply"
exit $((failures > 0))
