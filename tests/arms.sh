#!/usr/bin/env bash
# Break one rule of the simulator after another, in a copy of the tree, and see whether each way of
# comparing it with the running kernel notices that claims to: the conformance cases, the litmus
# tests, random programs, and random calls about mappings. What each claims is in
# tests/mutants/arms.txt. A claim that is not kept fails the script. Prints a Markdown table. Wants
# a Linux with a userfaultfd, as root. Arguments, if any, choose mutants by a part of their names.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/mutants/lib.sh
copy_tree arms
export FAULTBED_REQUIRE_KERNEL=1
# So many steps of random programs and calls about mappings, at the most, and so many rounds of a
# litmus test: a few first, because a round that ends with somebody asleep who should not be is
# looked at for long. All of them begin with the same seed.
few=60 many=4000 steps=60000 calls=200000 seed=1

declare -A reasons
mapfile -t claims < <(grep -v '^[#=]' tests/mutants/arms.txt)
while IFS=' ' read -r _ key _ text; do reasons[$key]=$text; done < <(grep '^=' tests/mutants/arms.txt)

# Each arm leaves in $cell what it has seen, or fails.
see_cases() {
  local words failed
  read -ra words <<<"$1"
  local out
  out=$(cd "$work" && timeout 600 "$cases" "${words[@]}" --skip litmus:: 2>&1) || true
  failed=$(grep -m 1 -E '^test .* FAILED$' <<<"$out" | sed 's/^test //; s/ \.\.\. FAILED$//') || return 1
  cell="\`$failed\`"
}

see_litmus() {
  local out='' line rounds=$few
  if out=$(timeout 300 "$faultbed" litmus "$1" --runs $rounds --seed $seed 2>&1); then
    rounds=$many
    out=$(timeout 300 "$faultbed" litmus "$1" --runs $rounds --seed $seed 2>&1) && return 1
  fi
  line=$(grep -m 1 -E '^ +[0-9]+ .* NOT ALLOWED$' <<<"$out") || line=
  if [ -n "$line" ]; then
    cell="\`$1\`: not allowed, and seen $(awk '{print $1}' <<<"$line") times in $rounds"
  elif line=$(grep -m 1 -oE '^ {10}condition [0-9]+' <<<"$out"); then
    cell="\`$1\`: its ${line#"${line%%[! ]*}"} does not hold any more"
  else
    echo "$out" >&2
    return 1
  fi
}

see_conform() {
  local out found
  out=$(timeout 1200 "$faultbed" conform --rule "$1" --ops $steps --huge 24 --seed $seed --out "$work/found" 2>&1) && return 1
  found=$(grep -m 1 -E '^[0-9]+ steps in [0-9]+ programs' <<<"$out") || { echo "$out" >&2; return 1; }
  cell="${found%% steps*} steps, smallest program $(grep -m 1 -oE 'after step [0-9]+' <<<"$out" | awk '{print $3 + 1}')"
}

see_vma() {
  local out found
  out=$(timeout 1200 "$faultbed" conform vma --ops $calls --seed $seed 2>&1) && return 1
  found=$(grep -m 1 -oE '^[0-9]+ calls in' <<<"$out") || { echo "$out" >&2; return 1; }
  cell="${found%% calls*} calls, smallest sequence $(grep -m 1 -oE 'after [0-9]+ calls' <<<"$out" | awk '{print $2}')"
}

failures=0
echo '| mutant | cases | litmus | random programs | random calls (`vma`) |'
echo '|---|---|---|---|---|'
for claim in "${claims[@]}"; do
  IFS='|' read -r list name by_cases by_litmus by_conform by_vma <<<"$claim"
  if [ $# -gt 0 ]; then
    wanted=0
    for part in "$@"; do [[ $name == *"$part"* ]] && wanted=1; done
    [ $wanted = 1 ] || continue
  fi
  read_list "$list"
  mutant=
  for one in "${mutants[@]}"; do [ "${one%%|*}" = "$name" ] && mutant=$one; done
  row="| $name |"
  if [ -z "$mutant" ] || ! "break_$list" "$mutant"; then
    echo "$row not applied | | | |"
    failures=$((failures + 1))
    continue
  fi
  if ! built=$(cd "$work" && CARGO_TARGET_DIR="$target" cargo test --no-run --test conformance 2>&1); then
    mend
    echo "$row does not build | | | |"
    grep -m 1 -A 6 '^error' <<<"$built" >&2 || true
    failures=$((failures + 1))
    continue
  fi
  mend
  cases=$(sed -n 's/.*Executable tests\/conformance\.rs (\(.*\))$/\1/p' <<<"$built")
  [[ $cases == /* ]] || cases=$work/$cases
  faultbed=$target/debug/faultbed
  for arm in cases litmus conform vma; do
    how=by_$arm
    if [[ ${!how} == -* ]]; then
      row+=" – ${reasons[${!how#-}]} |"
    elif cell='' && "see_$arm" "${!how}"; then
      row+=" $cell |"
    else
      row+=" **MISSED** (\`${!how}\`) |"
      failures=$((failures + 1))
    fi
  done
  echo "$row"
done
exit $((failures > 0))
