#!/usr/bin/env bash
# Break one rule of the simulated kernel after another, in a copy of the tree, and list the tests
# that notice: conformance cases, or, for mutants whose file is marked `suite:`, tests of the
# suite. A mutant that nothing notices fails the script. Prints a Markdown table. Wants a Linux
# with a userfaultfd. Arguments, if any, choose mutants by a part of their names.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${CARGO_TARGET_DIR:-$PWD/target}/sim-mutants
# Not the tree's own: cargo would take a mutant's build for the tree's.
target=$work-target
rm -rf "$work"
mkdir -p "$work"
git ls-files -z | xargs -0 cp --parents -t "$work"
kernel=$work/sim/src/kernel
# A mutant is built once and run once: the time goes into building.
export CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_TEST_OPT_LEVEL=0

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
  'd26: a child that is not watched keeps its protection|fork.rs|s/if wp \|\| keeps \{ pte \} else \{ pte\.without_wp\(\) \}/pte/'
  'e3: a short COPY tells nobody how far it came|resolve.rs|s/if done == 0 \{\n(\s+)return answer/if done < 9 {\n$1return answer/'
  'e5: EEXIST wakes|resolve.rs|s/return answer\(0, Outcome::mirrored\(errno\)\);/return answer(self.wake_range(ctx, range), Outcome::mirrored(errno));/'
  'e5: DONTWAKE wakes|resolve.rs|s/if dont_wake\(&request\) \{ 0 \}/if dont_wake(&request) \&\& bytes == 0 { 0 }/'
  'e13: COPY keeps the marker that was there|resolve.rs|s/(Request::Copy \{ \.\. \}) => \(Pte::page\(content\)/$1 if mm.table.get(vpn) == Pte::Marker(Marker::WriteProtect) => (Pte::Present { content, bits: PteBits::PROTECTED }, Did::Install { page, content }),\n            $1 => (Pte::page(content)/'
  'e16: ZEROPAGE covers poison in anonymous memory|resolve.rs|s/if matches!\(request, Request::Copy \{ \.\. \}\)\n/if matches!(request, Request::Copy { .. } | Request::Zeropage { .. })\n/'
  'e18: what WRITEPROTECT did before ENOENT is taken back by nobody, and wakes|protect.rs|s/Err\(errno\) => answer\(0, Outcome::bare\(errno\)\)/Err(errno) => answer(self.wake_range(ctx, range), Outcome::bare(errno))/'
  'e19: un-protecting wakes only where something changed|protect.rs|s/Ok\(None\) if mode\.is_empty\(\) =>/Ok(None) if mode.is_empty() \&\& held =>/'
  'e21: MOVE looks at the source first|move_page.rs|s/if !self\.table\.get\(to\)\.is_none\(\) \{/if !self.table.get(to).is_none() \&\& !self.table.get(from).is_none() {/'
  'f1: absent pages always take markers|protect.rs|s/let markers =\s[^;]*;/let markers = true;/'
  'e4: an answer that cannot be written is of no matter|struct_at.rs|s/call\.write\(outcome, true\);/let _ = outcome;/'
  'e15: CONTINUE fills a hole|object/fill.rs|s/None => return Err\(Errno::EFAULT\),/None => Content::Zero,/'
  'e23: WAKE wakes whoever waits, wherever|resolve.rs|s/answer\(self\.wake_range\(ctx, request\.range\(\)\), Outcome::OK\)/answer(self.wake_range(ctx, Span::new(shims::Addr::ZERO, shims::Len::new(1 << 47))), Outcome::OK)/'
  'd26: a child is watched although nobody asked for FORK|fork.rs|s/\n\s+&& self\.ctx\(ctx\)\.features\.contains\(Features::EVENT_FORK\)//'
  'd13: paging out takes what is mapped twice|object/huge.rs|s/if times == 1 \{/if times >= 1 {/; s/times == 1\n/times >= 1\n/'
  'f3: a hole in tmpfs takes the protection along|object/cut.rs|s/_ => pte\.zapped\(keeps_markers\(vma\)\),/_ => pte.zapped(false),/'
  'f6: holes are filled whoever watches for them|object/huge.rs|s/if has_holes && spaces\(\)\.any\(asks\) \{/if has_holes \&\& spaces().all(asks) {/'
  'f6: who watches for writes gets a huge page|object/huge.rs|s/if kept \|\| !table/if !table/'
  'c3: a protected page that is missing is trapped first|suite:fault.rs|s/match asked\(RegisterModes::MISSING\) \{\n\s+Some\(ctx\) => self\.ask\(ctx, Reason::Missing, by\),\n\s+None => Walk::FillProtected/match asked(RegisterModes::WP) {\nSome(ctx) if write => self.ask(ctx, Reason::Wp, by),\n_ => Walk::FillProtected/'
  'c14: memory that is watched for MISSING gets huge pages|suite:fault.rs|s/Some\(ctx\) => self\.ask\(ctx, Reason::Missing, by\),\n(\s+)None if self\.wants_huge\(vma\) => Walk::FillHuge/_ if self.wants_huge(vma) => Walk::FillHuge,\n$1Some(ctx) => self.ask(ctx, Reason::Missing, by)/'
  'c14: protecting a part of a huge page protects it whole|suite:protect.rs|s/self\.mm\(mm\)\.split_edges\(first, end\)/self.mm(mm).split_edges(0, 0)/'
  'd11: MADV_FREE takes the pages at once|suite:remove.rs|s/_ if free => given_up\(pte\),/_ if free => Pte::None,/'
  'd11: a page that was written again after MADV_FREE goes all the same|suite:page_table.rs|s/PteBits::READ_ONLY\.union\(PteBits::GIVEN_UP\)/PteBits::READ_ONLY/'
  'd13: MADV_PAGEOUT takes pages nobody gave up|suite:madvise.rs|s/bits\.contains\(PteBits::GIVEN_UP\) && //'
  'd13: a guard is put beside the page that is there|suite:guard.rs|s/if mm\.table\.get\(vpn\)\.is_present\(\) \{/if mm.table.get(vpn).is_present() \&\& vpn > end {/'
  'd13: taking guards away takes everything away|suite:guard.rs|s/\.find\(\|\(_, pte\)\| pte\.is_guard\(\)\)\?/.next()?/'
  'e10: COPY does not cover a guard|suite:resolve.rs|s/&& !\(guards_stay && marker\.is_guard\(\)\)/\&\& !marker.is_guard()/'
  'e20: MOVE takes what a fork has shared|suite:move_page.rs|s/if bits\.contains\(PteBits::FORKED\)/if bits.contains(PteBits::FORKED) \&\& holes/'
  'e12: hugetlb without a page to spare is ENOMEM|suite:object/fill.rs|s/return Err\(self\.profile\.no_huge_page\);/return Err(Errno::ENOMEM);/'
  'f3: protection of hugetlb goes with its registration|suite:object/map.rs|s/Backing::Hugetlb\(\.\.\) => true,/Backing::Hugetlb(..) => vma.uffd_modes().contains(RegisterModes::WP),/'
  'f2: what comes for a marker is not protected|suite:fault.rs|s/let bits = PteBits::PROTECTED \| zero;/let bits = zero;/'
  'f3: a removal keeps the marker of anonymous memory|suite:remove.rs|s/None => Pte::None,/None => pte.zapped(true),/'
  'f5: a write under WP_ASYNC leaves the bit|suite:fault.rs|s/bits\.difference\(PteBits::UFFD_WP\);/bits;/'
  'f5: a scan asks nobody for WP_ASYNC|suite:scan.rs|s/CHECK_WPASYNC\) && !is_async/CHECK_WPASYNC) \&\& run.locked \&\& !is_async/'
  'f5: a page that is not there is not written|suite:scan.rs|s/Pte::None if exists => PageIs::WRITTEN/Pte::None if exists => PageIs::empty()/'
  'f5: a scan that protects one page of a huge page leaves it whole|suite:thp.rs|s/protected > 0 && u64::from\(protected\) < UNIT/protected > 0 \&\& u64::from(protected) > UNIT/'
  'f6: a watched block with a hole collapses|suite:collapse.rs|s/Pte::None if watched => Err\(Errno::EBUSY\)/Pte::None if watched => Ok(())/'
  'f6: a collapse forgets the protection|suite:collapse.rs|s/bits\.contains\(PteBits::UFFD_WP\) => Err\(Errno::EINVAL\)/bits.contains(PteBits::UFFD_WP) => Ok(())/'
  'a9: fdinfo counts what nobody has read, and nothing else|suite:ctx.rs|s/self\.pending\.len\(\) \+ self\.taken\.len\(\)/self.pending.len()/'
  'a18: what was read stays readable|suite:ctx.rs|s/!self\.pending\.is_empty\(\) \|\| !self\.events\.is_empty\(\)/!self.pending.is_empty() || !self.events.is_empty() || !self.taken.is_empty()/'
  'a22: a released context queues faults|suite:fault.rs|s/if self\.ctx\(ctx\)\.released \{/if self.ctx(ctx).released \&\& write {/'
  'b1: a range may be empty|resolve.rs|s/\n\s+&& range\.len\.bytes\(\) > 0//'
  'b2: memory of another context is taken over|../vma/uffd.rs|s/if vma\.ctx\.is_some_and\(\|owner\| owner != ctx\) \{\n\s+return Err\(Errno::EBUSY\);\n\s+\}//'
  'b5: MINOR is for every memory|suite:../vma/uffd.rs|s/modes\.contains\(RegisterModes::MINOR\) && !hugetlb && !shmem/modes.contains(RegisterModes::MINOR) \&\& modes.is_empty()/'
  'c7: EXACT_ADDRESS is not heard|ctx.rs|s/let addr = if self\.features\.contains\(Features::EXACT_ADDRESS\) \{ byte \} else \{ page \};/let _ = byte; let addr = page;/'
  'c10: the last look finds no page|suite:fault.rs|s/\(Pte::Present \{ \.\. \}, Reason::Missing \| Reason::Minor\) => false/(Pte::Present { .. }, Reason::Missing | Reason::Minor) => true/'
  'd1: REMOVE is sent to whoever watches|remove.rs|s/\n\s+&& self\.ctx\(ctx\)\.features\.contains\(Features::EVENT_REMOVE\)//'
  'd6: a removal stops at a hole|remove.rs|s/call\.hole = true;\n\s+call\.next = page_of\(vma\.start\(\)\);/return fail(Errno::ENOMEM);/'
  'd10: locked memory is given up|remove.rs|s/vma\.flags\(\)\.contains\(VmaFlags::LOCKED\) && call/vma.flags().contains(VmaFlags::LOCKED) \&\& call.end == 0 \&\& call/'
  'd20: the source is announced before the move|remap.rs|s/\n\s+self\.push_unmaps\(&mut list, span\(asked\.old, old_len\.min\(new_len\)\), &done\.source\);//; s/(for moved in &done\.moved \{\n\s+let &Moved)/self.push_unmaps(&mut list, span(asked.old, old_len.min(new_len)), &done.source);\n$1/'
  'd21: a move that shrinks names the length it was asked for|remap.rs|s/RemapLen::Moved => len,/RemapLen::Moved => old_len,/'
  'e1: arguments are looked at before the gate|resolve.rs|s/self\.gate\(ctx, request\)\?;\n(\s+\/\/ e20)/check_range(range).map_err(Outcome::bare)?; self.gate(ctx, request)?;\n$1/'
  'e2: ENOENT leaves the field alone|resolve.rs|s/return Err\(Outcome::mirrored\(Errno::ENOENT\)\);/return Err(Outcome::bare(Errno::ENOENT));/'
  'e6: memory that nobody watches is filled|resolve.rs|s/vma\.uffd\(\)\.is_some\(\) && range\.end/range.end/'
  'e17: WRITEPROTECT may protect without waking|resolve.rs|s/(\|\| mode == WriteProtectMode::DONTWAKE)/$1 || mode == WriteProtectMode::WP.union(WriteProtectMode::DONTWAKE)/'
  'e22: protection moves along|move_page.rs|s/Pte::Present \{ content, \.\. \} => \(Pte::page\(content\), content\)/Pte::Present { content, bits } => (Pte::Present { content, bits }, content)/'
  'h1: no kernel asks whose the memory is|suite:../vma/uffd.rs|s/if foreign && self\.rules\.unregister_checks_owner/if foreign \&\& owner_is_asked(\&self.rules)/; s/\z/fn owner_is_asked(_: \&Rules) -> bool { false }\n/'
  'h2: every kernel watches MAP_DROPPABLE|suite:../vma/uffd.rs|s/\|\| \(rules\.register_refuses_droppable && vma\.flags\.contains\(VmaFlags::DROPPABLE\)\)//; s/fn can_register\(rules: &Rules/fn can_register(_: \&Rules/'
  'h4: an old kernel names the length that was moved|suite:remap.rs|s/RemapLen::Asked => old_len,/RemapLen::Asked => len,/'
  'h14: an old kernel writes the field of EAGAIN|suite:resolve.rs|s/self\.profile\.again_field == AgainField::Mirrored/self.profile.again_field != AgainField::Mirrored || true/'
)

survivors=0
echo '| mutant | tests that notice | one of them |'
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
  # Huge pages are a pool that others may want, and find nothing that the rest does not; the table
  # is about documents.
  judge=(--test conformance -- --skip huge --skip v57 --skip kinds --skip table)
  if [[ $file == suite:* ]]; then
    file=${file#suite:}
    judge=(--test suite -- kernel_)
  fi
  cp "$kernel/$file" "$work/orig"
  perl -0pi -e "$edit" "$kernel/$file"
  if cmp -s "$kernel/$file" "$work/orig"; then
    echo "| $name | not applied | |"
    survivors=$((survivors + 1))
    continue
  fi
  out=$(cd "$work" && CARGO_TARGET_DIR="$target" RUST_BACKTRACE=0 \
    timeout 900 cargo test "${judge[@]}" 2>&1 || true)
  cp "$work/orig" "$kernel/$file"
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
