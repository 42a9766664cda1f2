#!/usr/bin/env bash
# Break one rule of the simulated kernel after another, in a copy of the tree, and list the
# conformance cases that notice. A mutant that no case notices fails the script. Prints a
# Markdown table. Wants a Linux with a userfaultfd. Arguments, if any, choose mutants by a part
# of their names.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${CARGO_TARGET_DIR:-$PWD/target}/sim-mutants
# Not the tree's own: cargo would take a mutant's build for the tree's.
target=$work-target
rm -rf "$work"
mkdir -p "$work"
git ls-files -z | xargs -0 cp --parents -t "$work"
kernel=$work/sim/src/kernel

# name | file | what perl does to it, with the whole file as one line
mutants=(
  'a11: events are read before faults|ctx.rs|s/if !self\.pending\.is_empty\(\) \{/if !self.pending.is_empty() && self.events.is_empty() {/'
  'a11: the youngest fault is read first|ctx.rs|s/self\.pending\.remove\(0\)/self.pending.pop().expect("not empty")/'
  'a13: a fault that was read is no longer woken|ctx.rs|s/for queue in \[&mut self\.pending, &mut self\.taken\] \{\n(\s+)queue\.retain/for queue in [&mut self.pending] {\n$1queue.retain/'
  'a21: close leaves the senders of events asleep|events.rs|s/events\.drain\(\.\.\)/events.drain(..0)/'
  'b7: a registration adds to the modes|../vma/uffd.rs|s/range\.flags\.difference\(VmaFlags::UFFD\) \| wanted/range.flags | wanted/'
  'b13: UNREGISTER wakes the faulters of WP alone|syscalls.rs|s/parts\.iter\(\)\.filter\(\|part\| part\.modes\.contains\(RegisterModes::MISSING\)\)/parts.iter()/'
  'c4: a protection is looked at after the page|fault.rs|s/if !vma\.flags\(\)\.intersects\(wanted\) \{/if !vma.flags().intersects(wanted) && vma.uffd().is_none() {/'
  'd3: the gate is shut for the range of the event only|resolve.rs|s/if self\.ctx\(ctx\)\.changing > 0 \{/if self.ctx(ctx).changing > 0 && self.ctx(ctx).events.iter().any(|s| matches!(s.event, shims::Event::Remove(r) | shims::Event::Unmap(r) if r.contains(request.range().start))) {/'
  'd4: reading an event opens the gate|resolve.rs|s/if self\.ctx\(ctx\)\.changing > 0 \{/if !self.ctx(ctx).events.is_empty() {/'
  'd7: pages are zapped before the event is read|remove.rs|s/(let changing = self\.raise_changing\(ctx\);)/$1 for vpn in call.next..part_end { self.mm(mm).table.set(vpn, Pte::None); }/'
  'd9: what was announced is zapped whatever is there now|remove.rs|s/let part_end = end\.min\(part_end\);\n(\s+self\.mm\(mm\)\.readers \+= 1;\n\s+call\.at = RemovePc::Zap \{ part_end \};\n\s+self\.remove_zap\(mm, call, part_end\)\n\s+\}\n\n\s+\/\/\/ E5)/$1/'
  'd14: UNMAP names what was mapped, not the range of the call|syscalls.rs|s/self\.push_unmaps\(&mut list, event, removed\);\n(\s+)self\.announce\(list, ret\)/self.push_unmaps(&mut list, removed.spans().next().unwrap_or(event), removed);\n$1self.announce(list, ret)/'
  'd19: what is moved stays watched without the feature|remap.rs|s/\|ctx: crate::vma::CtxId\| ctxs\[ctx\.0 as usize\]\.features\.contains\(Features::EVENT_REMAP\)/|ctx: crate::vma::CtxId| (ctx.0 as usize) < ctxs.len()/'
  'd26: a child that is not watched keeps its protection|fork.rs|s/if wp \{ pte \} else \{ pte\.without_wp\(\) \}/pte/'
  'e3: a short COPY tells nobody how far it came|resolve.rs|s/if done == 0 \{\n(\s+)return answer/if done < 9 {\n$1return answer/'
  'e5: EEXIST wakes|resolve.rs|s/return answer\(0, Outcome::mirrored\(errno\)\);/return answer(self.wake_range(ctx, range), Outcome::mirrored(errno));/'
  'e5: DONTWAKE wakes|resolve.rs|s/if dont_wake\(&request\) \{ 0 \}/if dont_wake(&request) \&\& bytes == 0 { 0 }/'
  'e13: COPY keeps the marker that was there|resolve.rs|s/(Request::Copy \{ \.\. \}) => \(Pte::page\(content\)/$1 if mm.table.get(vpn) == Pte::Marker(Marker::WriteProtect) => (Pte::Present { content, bits: PteBits::PROTECTED }, Did::Install { page, content }),\n            $1 => (Pte::page(content)/'
  'e16: ZEROPAGE covers poison in anonymous memory|resolve.rs|s/if matches!\(request, Request::Copy \{ \.\. \}\)\n/if matches!(request, Request::Copy { .. } | Request::Zeropage { .. })\n/'
  'e18: what WRITEPROTECT did before ENOENT is taken back by nobody, and wakes|protect.rs|s/Err\(errno\) => answer\(0, Outcome::bare\(errno\)\)/Err(errno) => answer(self.wake_range(ctx, range), Outcome::bare(errno))/'
  'e19: un-protecting wakes only where something changed|protect.rs|s/Ok\(None\) if mode\.is_empty\(\) =>/Ok(None) if mode.is_empty() \&\& held =>/'
  'e21: MOVE looks at the source first|move_page.rs|s/if !self\.table\.get\(to\)\.is_none\(\) \{/if !self.table.get(to).is_none() \&\& !self.table.get(from).is_none() {/'
  'f1: absent pages always take markers|protect.rs|s/let markers =\s[^;]*;/let markers = true;/'
)

survivors=0
echo '| mutant | cases that notice | one of them |'
echo '|---|---|---|'
for mutant in "${mutants[@]}"; do
  IFS='|' read -r name file edit <<<"$mutant"
  if [ $# -gt 0 ]; then
    wanted=0
    for part in "$@"; do [[ $name == *"$part"* ]] && wanted=1; done
    [ $wanted = 1 ] || continue
  fi
  # An edit may hold the separator.
  edit=${mutant#*|*|}
  cp "$kernel/$file" "$work/orig"
  perl -0pi -e "$edit" "$kernel/$file"
  if cmp -s "$kernel/$file" "$work/orig"; then
    echo "| $name | not applied | |"
    survivors=$((survivors + 1))
    continue
  fi
  # Huge pages are a pool that others may want, and find nothing that the rest does not.
  out=$(cd "$work" && CARGO_TARGET_DIR="$target" RUST_BACKTRACE=0 \
    timeout 600 cargo test --test conformance -- --skip huge --skip v57 --skip kinds 2>&1 || true)
  cp "$work/orig" "$kernel/$file"
  failed=$(grep -E '^test .* FAILED$' <<<"$out" | sed 's/^test //; s/ \.\.\. FAILED$//' || true)
  count=$(grep -c . <<<"$failed" || true)
  if ! grep -q '^test result:' <<<"$out"; then
    echo "| $name | does not build | |"
    grep -m 1 -A 6 '^error' <<<"$out" >&2 || true
    survivors=$((survivors + 1))
  else
    [ "$count" -gt 0 ] || survivors=$((survivors + 1))
    echo "| $name | $count | \`$(head -1 <<<"$failed")\` |"
  fi
done
exit $((survivors > 0))
