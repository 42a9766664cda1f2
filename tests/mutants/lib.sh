# What the scripts that break rules of the simulator share: a copy of the tree to break them in,
# the lists of how, and the breaking. Owns no judgement. To be sourced at the root of the tree.

# shellcheck shell=bash
# A mutant is built once and run once: the time goes into building.
export CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_TEST_OPT_LEVEL=0
export RUST_BACKTRACE=0

# copy_tree NAME: a fresh copy of the tree in $work, to be built in $target. That is not the
# tree's own: cargo would take a mutant's build for the tree's.
copy_tree() {
  work=${CARGO_TARGET_DIR:-$PWD/target}/$1
  target=$work-target
  rm -rf "$work"
  mkdir -p "$work"
  git ls-files -z | xargs -0 cp --parents -t "$work"
}

# read_list NAME: its mutants, into $mutants.
read_list() {
  mapfile -t mutants < <(grep -v '^#' "tests/mutants/$1.txt")
}

# break_kernel MUTANT, break_vma MUTANT: break that rule in the copy. Fails if nothing changed.
break_kernel() {
  local file edit=${1#*|*|}
  file=${1#*|}
  file=${file%%|*}
  broken=$work/sim/src/kernel/${file#suite:}
  cp "$broken" "$work/orig"
  perl -0pi -e "$edit" "$broken"
  ! cmp -s "$broken" "$work/orig"
}

break_vma() {
  local file=merge.rs edit=${1#*|}
  case $edit in *.rs:*) file=${edit%%:*} edit=${edit#*:} ;; esac
  broken=$work/sim/src/vma/$file
  cp "$broken" "$work/orig"
  sed -i "$edit" "$broken"
  ! cmp -s "$broken" "$work/orig"
}

# mend: take that back.
mend() {
  cp "$work/orig" "$broken"
}
