#!/usr/bin/env bash
# Break each condition on which an exhaustive search leaves out orders and states, one after
# another, and list the tests that notice. The list is tests/mutants/ahead.txt. All mutants are
# built at once, in a copy of the tree, and the environment says which of them a run has: they are
# many, and building takes longer than running. What the kernel promises of a step is asked first,
# then tests/reductions.rs. A mutant that nothing notices fails the script; docs/exhaustive.md has
# those that are known. Prints a Markdown table. Arguments, if any, choose mutants by a part
# of their names.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/mutants/lib.sh
export CARGO_PROFILE_TEST_OPT_LEVEL=2 CARGO_PROFILE_DEV_OPT_LEVEL=2
copy_tree ahead-mutants
read_list ahead

cat >>"$work/shims/src/lib.rs" <<'RUST'
/// Is this the mutant that runs?
pub fn mutant(number: usize) -> bool {
    static WHICH: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    let asked = || std::env::var("FAULTBED_MUTANT").ok()?.parse().ok();
    *WHICH.get_or_init(|| asked().unwrap_or(usize::MAX)) == number
}
RUST
for number in "${!mutants[@]}"; do
  IFS='|' read -r name file edit <<<"${mutants[number]}"
  cp "$work/$file" "$work/orig"
  perl -0pi -e "${edit//MUTANT/shims::mutant($number)}" "$work/$file"
  if cmp -s "$work/$file" "$work/orig"; then
    echo "not applied: $name" >&2
    exit 1
  fi
done
# build WHAT...: its test binary.
build() {
  local built path
  built=$(cd "$work" && CARGO_TARGET_DIR=$target cargo test --no-run "$@" 2>&1) || {
    echo "$built" >&2
    exit 1
  }
  path=$(sed -n "s/.*Executable .* (\(.*\))$/\1/p" <<<"$built")
  [[ $path == /* ]] && echo "$path" || echo "$work/$path"
}
reductions=$(build --test reductions) promises=$(build -p faultbed-sim --lib)

# failing COMMAND...: the tests of it that fail, or that it does not end.
failing() {
  local out status=0
  out=$(cd "$work" && timeout 600 "$@" 2>&1) || status=$?
  grep -E '^test .* FAILED$' <<<"$out" | sed 's/^test //; s/ \.\.\. FAILED$//' || true
  if [ "$status" = 124 ]; then echo 'it does not end'; fi
}

for name in "$reductions" "$promises ahead::"; do
  # shellcheck disable=SC2086
  if [ -n "$(FAULTBED_MUTANT=none failing $name)" ]; then
    echo "fails without a mutant: $name" >&2
    exit 1
  fi
done
survivors=0
echo '| mutant | tests that notice | one of them |'
echo '|---|---|---|'
for number in "${!mutants[@]}"; do
  name=${mutants[number]%%|*}
  if [ $# -gt 0 ]; then
    wanted=0
    for part in "$@"; do [[ $name == *"$part"* ]] && wanted=1; done
    [ $wanted = 1 ] || continue
  fi
  export FAULTBED_MUTANT=$number
  failed=$(failing "$promises" ahead::)
  [ -n "$failed" ] || failed=$(failing "$reductions")
  count=$(grep -c . <<<"$failed" || true)
  [ "$count" -gt 0 ] || survivors=$((survivors + 1))
  echo "| $name | $count | \`$(head -1 <<<"$failed")\` |"
done
exit $((survivors > 0))
