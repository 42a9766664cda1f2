#!/usr/bin/env bash
# Break each condition of the merge predicates, and each of the conditions on which a leaf is
# edited in place, in turn, in a copy of the tree, and list the tests that notice. A mutant that
# no test notices fails the script. Prints a Markdown table. An argument picks the mutants whose
# names contain it.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${CARGO_TARGET_DIR:-$PWD/target}/vma-mutants
# Not the tree's own: cargo would take a mutant's build for the tree's.
target=$work-target
rm -rf "$work"
mkdir -p "$work"
git ls-files -z | xargs -0 cp --parents -t "$work"

# name | what sed does to merge.rs, or to the file named first
mutants=(
  'condition 1: policies may differ|s/a\.policy == b\.policy/true/'
  'condition 2: flags may differ|s/(a\.flags ^ b\.flags)\.difference(sticky(rules))\.is_empty()/true/'
  'condition 2: sticky flags are not ignored|s/(a\.flags ^ b\.flags)\.difference(sticky(rules))/(a.flags ^ b.flags)/'
  'condition 2: sticky flags do not stick|s/survivor\.flags |= sticky;//'
  'condition 3: files may differ|s/a\.backing == b\.backing/true/'
  'condition 4: contexts may differ|s/a\.ctx == b\.ctx/true/'
  'condition 5: names may differ|s/a\.name == b\.name/true/'
  'condition 6: a forked target takes in anything|s/(Some(target), None) => !target\.is_forked()/(Some(_), None) => true/'
  'condition 6: a faulted source joins on every kernel|s/rules\.faulted_into_unfaulted \&\& !source/!source/'
  'condition 6: a forked source joins|s/ \&\& !source\.is_forked()//'
  'condition 6: identities may differ|s/(Some(target), Some(source)) => target == source/(Some(_), Some(_)) => true/'
  'condition 6: the two neighbours may differ|s/(Some(prev), Some(next)) => prev == next/(Some(_), Some(_)) => true/'
  'condition 7: offsets need not be linear|s/ \&\& lower\.pgoff + lower\.pages() == upper\.pgoff//'
  'condition 8: ranges need not touch|s/lower\.end == upper\.start \&\& //'
  'condition 9: special flags merge|s/range\.flags\.intersects(VmaFlags::SPECIAL)/false/'
  'condition 10: a next with a hook is deleted by a new range|s/=> !next\.close \&\& neighbours/=> neighbours/'
  'condition 10: a next with a hook is deleted by a change|s/if !next\.close \&\& neighbours/if neighbours/'
  'condition 10: a middle with a hook is deleted|s/at_start \&\& at_end \&\& middle\.close/false/'
  'an extension asks for its chain, too|s/ || next\.is_none_or(|next| next\.anon\.is_some())/ || true/'
  'an extension joins unfaulted memory on every kernel|s/!rules\.faulted_into_unfaulted || next/next/'
  'an extension takes faulted memory for unfaulted|s/next\.is_none_or(|next| next\.anon\.is_some())/next.is_none()/'
  'an unfaulted survivor inherits nothing|s/survivor\.anon = survivor\.anon\.or(anon);//'
  'reuse: offsets need not be linear|s/let compatible = linear(lower, upper)/let compatible = true/'
  'reuse: policies may differ|s/lower\.policy == upper\.policy/true/'
  'reuse: files may differ|s/lower\.backing\.file() == upper\.backing\.file()/true/'
  'reuse: flags may differ|s/(lower\.flags ^ upper\.flags)\.difference(ignored)\.is_empty()/true/'
  'reuse: protections must be equal|s/let ignored = VmaFlags::ACCESS | sticky/let ignored = sticky/'
  'reuse: a forked chain is taken over|s/compatible \&\& !anon\.is_forked()/compatible/'
  'in place: a gap nobody above the parent knows of|tree/near.rs:s/gap <= up\.bound;/true;/'
  'in place: a gap the parent does not know of|tree/near.rs:s/up\.gaps\[up\.child\] = gap;//'
  'in place: the neighbour below is in another leaf|tree/near.rs:s/self\.index > 0 || self\.up\.is_none()/true/'
  'in place: the place is above the leaf|simple.rs:s/ || (touches \&\& !near\.sees())//'
  'in place: the neighbour below is of another parent|tree/near.rs:s/self\.index > 0 || self\.up\.as_ref()\.is_none_or(|up| up\.child > 0)/true/'
  'in place: the neighbour above is of another parent|tree/near.rs:s/|| self\.up\.as_ref()\.is_none_or(|up| !up\.is_last())/|| true/'
  'in place: the parent is not told of an end|tree/near.rs:s/up\.ends\[up\.child\] = end;//'
  'in place: the parent is not told of a start|tree/near.rs:s/up\.starts\[up\.child\] = start;//'
  'in place: a leaf is emptied|tree/near.rs:s/self\.leaf\.len() > if self\.up\.is_none() { 1 } else { NARROW }/true/'
  'in place: a leaf overflows|tree/near.rs:s/let fits = self\.leaf\.has_room();/let fits = true;/'
  'leaf: a slot that becomes free is lost|tree/leaf.rs:s/header\.order\[last\] = slot;//'
  'leaf: a copy keeps the slots but not where they are|tree/leaf.rs:s/order: IN_ORDER, \.\.\*header/..*header/'
  'leaf: a start is not written again|tree/leaf.rs:s/header\.starts\[at\] = vma\.start;$//'
  'placement: the guard gap of the VMA above does not count|place.rs:s/Some(guard) if at + len > guard => high = guard,//'
  'in place: the limit does not count|tree/near.rs:s/ \&\& \*self\.len < max//'
  'in place: sealed memory is unmapped|unmap.rs:s/VmaFlags::SEALED | VmaFlags::HUGETLB);$/VmaFlags::HUGETLB);/'
  'in place: a huge page is cut|unmap.rs:s/VmaFlags::SEALED | VmaFlags::HUGETLB);$/VmaFlags::SEALED);/'
  'simple mmap: above the limit of VMAs|simple.rs:s/|| self\.map_count() > max_map_count//'
  'simple mmap: below mmap_min_addr|simple.rs:s/|| start < mmap_min_addr//'
  'simple mmap: beyond RLIMIT_AS|simple.rs:s/self\.total_pages + pages > rlimit_as/false \&\& self.total_pages + pages > rlimit_as/'
  'simple mmap: beyond RLIMIT_DATA|simple.rs:s/data > 0 \&\& self/false \&\& self/'
  'simple mmap: mlockall is forgotten|simple.rs:s/|| !self\.future_flags\.is_empty()//'
)

only=${1:-}
survivors=0
echo '| mutant | tests that fail | one of them |'
echo '|---|---|---|'
for mutant in "${mutants[@]}"; do
  [[ ${mutant%%|*} == *"$only"* ]] || continue
  what=${mutant#*|} name=merge.rs
  case $what in *.rs:*) name=${what%%:*} what=${what#*:} ;; esac
  file=$work/sim/src/vma/$name
  cp "sim/src/vma/$name" "$file"
  sed -i "$what" "$file"
  if cmp -s "$file" "sim/src/vma/$name"; then
    echo "| ${mutant%%|*} | not applied | |"
    survivors=$((survivors + 1))
    cp "sim/src/vma/$name" "$file"
    continue
  fi
  # A mutant may keep a test from ending, which is noticed as well. Building does not count.
  (cd "$work" && CARGO_TARGET_DIR=$target cargo test -p faultbed-sim --lib --no-run) 2>/dev/null || true
  status=0
  out=$(cd "$work" && CARGO_TARGET_DIR=$target RUST_BACKTRACE=0 \
    timeout 300 cargo test -p faultbed-sim --lib vma:: 2>&1) || status=$?
  if [ "$status" = 124 ]; then
    echo "| ${mutant%%|*} | they do not end | |"
    cp "sim/src/vma/$name" "$file"
    continue
  fi
  failed=$(grep -E '^test .* FAILED$' <<<"$out" | sed 's/^test vma::tests:://; s/ \.\.\. FAILED$//' || true)
  count=$(grep -c . <<<"$failed" || true)
  if ! grep -q '^test result:' <<<"$out"; then
    echo "| ${mutant%%|*} | does not build | |"
    survivors=$((survivors + 1))
  else
    [ "$count" -gt 0 ] || survivors=$((survivors + 1))
    first=$(grep -v '^properties' <<<"$failed" | head -1 || true)
    echo "| ${mutant%%|*} | $count | \`${first:-$(head -1 <<<"$failed")}\` |"
  fi
  cp "sim/src/vma/$name" "$file"
done
exit $((survivors > 0))
